"""Ready sets of rules: what agents' frameworks change, what only steers and tracks."""

from __future__ import annotations

from typing import Final

from cachewrap.same.rules import Rule, ignore, in_call_order, renumber, replace, sorted_by_name

AGENTS: Final[tuple[Rule, ...]] = (
    in_call_order,
    sorted_by_name,
    renumber(),
    replace(r"\bat 0x[0-9a-fA-F]{6,16}\b", "at 0x", numbered=True),
    replace(
        r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b",
        "uuid",
        numbered=True,
    ),
)
"""What differs from one run of an agent to the next by no doing of its user.

The order of adjacent results of tools (LlamaIndex appends them as they finish), the order of tools
(langgraph-supervisor builds it from a set), the ids of calls that a client makes, addresses of
objects and UUIDs in texts (CrewAI prints functions into its plans).
"""

STEERING: Final[tuple[Rule, ...]] = (
    # Who asks. OpenAI, API reference: an identifier of an end user, to find the prompt cache and
    # for its checks for abuse. OpenRouter, "User Tracking": may keep users apart, each at a
    # provider of its own.
    ignore("user"),
    # What is kept beside a request. OpenAI, API reference: for the dashboard, and to find objects
    # by. Anthropic, API reference of messages: `user_id`, for its checks for abuse. LiteLLM,
    # "Routing based on request metadata": may choose a model by its tags. AWS, API reference of
    # Converse and InvokeModel: to filter the log of invocations by.
    ignore("metadata", "requestMetadata", "headers.x-amzn-bedrock-request-metadata"),
    # Whether the answer is kept. OpenAI, API reference: for evaluations, distillation, and to go on
    # from it with `previous_response_id`, which an answer that was not kept does not let.
    ignore("store"),
    # Which capacity serves it. OpenAI, API reference and "Flex processing"; Anthropic, "Service
    # tiers"; Groq, "Service Tiers"; AWS, API reference of Converse and InvokeModel: price, speed,
    # availability. An answer names its tier.
    ignore("service_tier", "serviceTier", "headers.x-amzn-bedrock-service-tier"),
    # In no key of a request over HTTP, see `cachewrap.request.canonical`: here for functions with
    # such parameters.
    ignore(
        *("cache_control", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
        "safety_identifier",
    ),
)
"""What steers and tracks a request and no model reads, by its provider's documentation."""
