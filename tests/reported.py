"""Answers as providers give them, cut to what tells of usage; by the extractor of genai-prices."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

CHAT: Final = {
    "object": "chat.completion",
    "id": "chatcmpl-1",
    "created": 1760000000,
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
    ],
}
"""What is the same in every answer of OpenAI's kind."""


def prices_are_new() -> bool:
    """Whether genai-prices is there that knows all these kinds of tokens; older ones know fewer."""
    try:
        return tuple(map(int, version("genai-prices").split(".")[:2])) >= (0, 2)
    except PackageNotFoundError:
        return False


@dataclass(frozen=True)
class Reported:
    """An answer of an endpoint, and who reads its usage in genai-prices."""

    path: str
    provider: str
    flavor: str
    body: dict[str, Any]


def chat(provider: str, model: str, flavor: str = "chat", /, **usage: Any) -> Reported:
    """An answer of the kind that OpenAI's has."""
    body = {**CHAT, "model": model, "usage": usage}
    return Reported("chat/completions", provider, flavor, body)


def responses(provider: str, model: str, **usage: Any) -> Reported:
    """An answer of the Responses API."""
    body = {
        "object": "response",
        "id": "resp_1",
        "status": "completed",
        "model": model,
        "output": [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hi."}],
            }
        ],
        "usage": usage,
    }
    return Reported("responses", provider, "responses", body)


def message(
    model: str, provider: str = "anthropic", flavor: str = "default", /, **usage: Any
) -> Reported:
    """An answer of Anthropic's."""
    body = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "Hi."}],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    return Reported("messages", provider, flavor, body)


def gemini(model: str, **usage: Any) -> Reported:
    """An answer of Gemini's own API."""
    body = {
        "candidates": [
            {
                "index": 0,
                "content": {"role": "model", "parts": [{"text": "Hi."}]},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": usage,
        "modelVersion": model,
    }
    return Reported(f"v1beta/models/{model}:generateContent", "google", "default", body)


def of_modalities(**counts: int) -> list[dict[str, Any]]:
    """Tokens by what they are, as Gemini tells them."""
    return [{"modality": name.upper(), "tokenCount": count} for name, count in counts.items()]


REPORTED: Final[dict[str, Reported]] = {
    "OpenAI chat": chat(
        "openai",
        "gpt-4o-2024-08-06",
        prompt_tokens=2006,
        completion_tokens=300,
        total_tokens=2306,
        prompt_tokens_details={"cached_tokens": 1920, "audio_tokens": 0},
        completion_tokens_details={
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    ),
    "OpenAI chat, nothing cached": chat(
        "openai", "gpt-4o-mini-2024-07-18", prompt_tokens=19, completion_tokens=10, total_tokens=29
    ),
    "OpenAI chat, details null": chat(
        "openai",
        "gpt-4o-2024-08-06",
        prompt_tokens=19,
        completion_tokens=10,
        total_tokens=29,
        prompt_tokens_details=None,
        completion_tokens_details=None,
    ),
    "OpenAI reasoning": chat(
        "openai",
        "o3-mini-2025-01-31",
        prompt_tokens=1843,
        completion_tokens=2816,
        total_tokens=4659,
        prompt_tokens_details={"cached_tokens": 1664, "audio_tokens": 0},
        completion_tokens_details={"reasoning_tokens": 2560, "audio_tokens": 0},
    ),
    "OpenAI audio": chat(
        "openai",
        "gpt-4o-audio-preview-2024-12-17",
        prompt_tokens=1117,
        completion_tokens=244,
        total_tokens=1361,
        prompt_tokens_details={"cached_tokens": 0, "audio_tokens": 1081, "text_tokens": 36},
        completion_tokens_details={"reasoning_tokens": 0, "audio_tokens": 201, "text_tokens": 43},
    ),
    "OpenAI long prompt": chat(
        "openai",
        "gpt-5.4",
        prompt_tokens=272_001,
        completion_tokens=1200,
        total_tokens=273_201,
        prompt_tokens_details={"cached_tokens": 270_848, "audio_tokens": 0},
        completion_tokens_details={"reasoning_tokens": 640, "audio_tokens": 0},
    ),
    "OpenAI responses": responses(
        "openai",
        "gpt-5-2025-08-07",
        input_tokens=4711,
        input_tokens_details={"cached_tokens": 4608},
        output_tokens=1893,
        output_tokens_details={"reasoning_tokens": 1536},
        total_tokens=6604,
    ),
    "OpenAI responses, nothing cached": responses(
        "openai",
        "gpt-4.1-2025-04-14",
        input_tokens=36,
        input_tokens_details={"cached_tokens": 0},
        output_tokens=87,
        output_tokens_details={"reasoning_tokens": 0},
        total_tokens=123,
    ),
    "OpenAI embeddings": Reported(
        "embeddings",
        "openai",
        "embeddings",
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
            "model": "text-embedding-3-small",
            "usage": {"prompt_tokens": 8121, "total_tokens": 8121},
        },
    ),
    "Azure chat": chat(
        "azure",
        "gpt-4o-2024-11-20",
        prompt_tokens=3011,
        completion_tokens=17,
        total_tokens=3028,
        prompt_tokens_details={"cached_tokens": 2944, "audio_tokens": 0},
        completion_tokens_details={"reasoning_tokens": 0, "audio_tokens": 0},
    ),
    "Anthropic": message("claude-sonnet-4-20250514", input_tokens=2095, output_tokens=503),
    "Anthropic, written for five minutes": message(
        "claude-sonnet-4-20250514",
        input_tokens=21,
        cache_creation_input_tokens=18_886,
        cache_read_input_tokens=0,
        cache_creation={"ephemeral_5m_input_tokens": 18_886, "ephemeral_1h_input_tokens": 0},
        output_tokens=393,
        service_tier="standard",
    ),
    "Anthropic, written for an hour": message(
        "claude-opus-4-1-20250805",
        input_tokens=12,
        cache_creation_input_tokens=9001,
        cache_read_input_tokens=0,
        cache_creation={"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 9001},
        output_tokens=88,
        service_tier="standard",
    ),
    "Anthropic, read and written for both": message(
        "claude-sonnet-4-5-20250929",
        input_tokens=2048,
        cache_creation_input_tokens=556,
        cache_read_input_tokens=1800,
        cache_creation={"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
        output_tokens=503,
        service_tier="standard",
    ),
    "Anthropic, read": message(
        "claude-haiku-4-5-20251001",
        input_tokens=3,
        cache_creation_input_tokens=0,
        cache_read_input_tokens=188_086,
        cache_creation={"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        output_tokens=393,
    ),
    "Anthropic, long prompt that was read": message(
        "claude-sonnet-4-20250514",
        input_tokens=3,
        cache_creation_input_tokens=1,
        cache_read_input_tokens=200_086,
        output_tokens=393,
    ),
    "Anthropic with a search": message(
        "claude-sonnet-4-20250514",
        input_tokens=6039,
        cache_creation_input_tokens=0,
        cache_read_input_tokens=0,
        output_tokens=931,
        server_tool_use={"web_search_requests": 2},
    ),
    "Gemini": gemini(
        "gemini-2.5-pro",
        promptTokenCount=16_250,
        candidatesTokenCount=312,
        totalTokenCount=18_003,
        cachedContentTokenCount=12_228,
        promptTokensDetails=of_modalities(text=16_250),
        cacheTokensDetails=of_modalities(text=12_228),
        thoughtsTokenCount=1441,
    ),
    "Gemini, long prompt": gemini(
        "gemini-2.5-pro",
        promptTokenCount=200_001,
        candidatesTokenCount=312,
        totalTokenCount=200_313,
        cachedContentTokenCount=150_228,
    ),
    "Gemini with sound": gemini(
        "gemini-2.5-flash",
        promptTokenCount=1960,
        candidatesTokenCount=22,
        totalTokenCount=2004,
        promptTokensDetails=of_modalities(text=40, audio=1920),
        candidatesTokensDetails=of_modalities(text=22),
        thoughtsTokenCount=22,
    ),
    "Gemini with sound that was cached": gemini(
        "gemini-2.5-flash",
        promptTokenCount=5960,
        candidatesTokenCount=22,
        totalTokenCount=5982,
        cachedContentTokenCount=5500,
        promptTokensDetails=of_modalities(text=40, audio=5920),
        cacheTokensDetails=of_modalities(text=20, audio=5480),
    ),
    "Gemini with a picture made": gemini(
        "gemini-2.5-flash-image",
        promptTokenCount=8,
        candidatesTokenCount=1303,
        totalTokenCount=1311,
        promptTokensDetails=of_modalities(text=8),
        candidatesTokensDetails=of_modalities(image=1290, text=13),
    ),
    "Gemini with tools": gemini(
        "gemini-2.5-flash",
        promptTokenCount=31,
        candidatesTokenCount=80,
        totalTokenCount=1811,
        toolUsePromptTokenCount=1500,
        thoughtsTokenCount=200,
        promptTokensDetails=of_modalities(text=31),
        toolUsePromptTokensDetails=of_modalities(text=1500),
    ),
    "Gemini as OpenAI": chat(
        "google",
        "gemini-2.5-flash",
        prompt_tokens=1812,
        completion_tokens=244,
        total_tokens=2056,
        prompt_tokens_details={"cached_tokens": 1024},
    ),
    "Groq": chat(
        "groq",
        "llama-3.3-70b-versatile",
        "default",
        queue_time=0.05,
        prompt_tokens=4641,
        prompt_time=0.08,
        completion_tokens=1817,
        completion_time=4.1,
        total_tokens=6458,
        total_time=4.2,
    ),
    "Groq, cached": chat(
        "groq",
        "openai/gpt-oss-120b",
        "default",
        queue_time=0.05,
        prompt_tokens=4641,
        completion_tokens=1817,
        total_tokens=6458,
        prompt_tokens_details={"cached_tokens": 4608},
        completion_tokens_details={"reasoning_tokens": 812},
    ),
    "Groq, another maker's": chat(
        "groq",
        "moonshotai/kimi-k2-instruct-0905",
        "default",
        prompt_tokens=4641,
        completion_tokens=1817,
        total_tokens=6458,
        prompt_tokens_details={"cached_tokens": 4608},
    ),
    "Mistral": chat(
        "mistral",
        "mistral-large-latest",
        "default",
        prompt_tokens=4170,
        completion_tokens=129,
        total_tokens=4299,
        prompt_tokens_details={"cached_tokens": 4096},
    ),
    "Mistral, as before": chat(
        "mistral",
        "mistral-small-2506",
        "default",
        prompt_tokens=17,
        completion_tokens=129,
        total_tokens=146,
    ),
    "DeepSeek": chat(
        "deepseek",
        "deepseek-chat",
        prompt_tokens=1733,
        completion_tokens=512,
        total_tokens=2245,
        prompt_tokens_details={"cached_tokens": 1664},
        prompt_cache_hit_tokens=1664,
        prompt_cache_miss_tokens=69,
    ),
    "DeepSeek reasoning": chat(
        "deepseek",
        "deepseek-reasoner",
        prompt_tokens=1733,
        completion_tokens=2512,
        total_tokens=4245,
        prompt_tokens_details={"cached_tokens": 1664},
        completion_tokens_details={"reasoning_tokens": 2048},
        prompt_cache_hit_tokens=1664,
        prompt_cache_miss_tokens=69,
    ),
    "xAI": chat(
        "x-ai",
        "grok-4-0709",
        prompt_tokens=687,
        completion_tokens=12,
        total_tokens=1011,
        prompt_tokens_details={
            "text_tokens": 687,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": 640,
        },
        completion_tokens_details={
            "reasoning_tokens": 312,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        num_sources_used=0,
    ),
    "OpenRouter": chat(
        "openrouter",
        "anthropic/claude-sonnet-4.5",
        prompt_tokens=12_194,
        completion_tokens=244,
        total_tokens=12_438,
        cost=0.0123,
        prompt_tokens_details={"cached_tokens": 10_318, "audio_tokens": 0},
        completion_tokens_details={"reasoning_tokens": 0},
    ),
    "Perplexity": chat(
        "perplexity",
        "sonar-deep-research",
        "default",
        prompt_tokens=33,
        completion_tokens=7163,
        total_tokens=7196,
        citation_tokens=23_881,
        num_search_queries=18,
        reasoning_tokens=149_131,
    ),
    "Bedrock Converse": Reported(
        "model/us.anthropic.claude-sonnet-4-20250514-v1:0/converse",
        "aws",
        "default",
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "Hi."}]}},
            "stopReason": "end_turn",
            "model": "us.anthropic.claude-sonnet-4-20250514-v1:0",
            "usage": {
                "inputTokens": 30,
                "outputTokens": 628,
                "totalTokens": 9658,
                "cacheReadInputTokens": 8000,
                "cacheWriteInputTokens": 1000,
            },
        },
    ),
    "Vertex Anthropic": message(
        "claude-sonnet-4-5@20250929",
        "google",
        "anthropic",
        input_tokens=21,
        cache_creation_input_tokens=400,
        cache_read_input_tokens=18_886,
        output_tokens=393,
    ),
}
"""By the name of the case."""


def sse(events: Iterable[Any], named: bool = False, done: bool = False) -> str:
    """Events as servers send them."""
    lines = []
    for event in events:
        if named:
            lines.append(f"event: {event['type']}")
        lines += [f"data: {json.dumps(event)}", ""]
    return "\n".join([*lines, *(["data: [DONE]", ""] if done else []), ""])


def streamed(one: Reported) -> str:
    """The same answer as a stream of the endpoint's."""
    body = one.body
    if one.path == "messages":
        usage = body["usage"]
        began = {**body, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        ended = {"output_tokens": usage["output_tokens"]}
        return sse(
            [
                {"type": "message_start", "message": began},
                {"type": "message_delta", "delta": delta, "usage": ended},
                {"type": "message_stop"},
            ],
            named=True,
        )
    if one.path == "responses":
        began = {**body, "status": "in_progress", "output": [], "usage": None}
        return sse(
            [
                {"type": "response.created", "response": began},
                {"type": "response.completed", "response": body},
            ],
            named=True,
        )
    if "usageMetadata" in body:
        first = {
            **body,
            "usageMetadata": {"promptTokenCount": body["usageMetadata"]["promptTokenCount"]},
        }
        first["candidates"] = [{"index": 0, "content": {"parts": [{"text": "H"}]}}]
        return sse([first, body])
    chunk = {**body, "object": "chat.completion.chunk", "usage": None}
    said = [{"index": 0, "delta": {"content": "Hi."}, "finish_reason": None}]
    ended = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    last = {**chunk, "choices": [], "usage": body["usage"]}
    return sse([{**chunk, "choices": said}, {**chunk, "choices": ended}, last], done=True)
