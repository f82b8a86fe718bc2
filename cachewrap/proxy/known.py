"""Known providers: where they are, how they err, and what leads libraries to a proxy of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Provider:
    """A known provider.

    Args:
        name: the first part of a path.
        base: where its paths begin; with a part in braces where the client's path names that.
        version: what the paths of calls begin with. Libraries do not agree on whether a base URL
            has it, and read the same variables: a call that comes without it gets it.
        shape: of its errors.
        variables: what libraries read a base URL from, and what stands there behind the name.
        moved: paths whose base and path are others: its own SDK asks for them there.
    """

    name: str
    base: str
    version: str = ""
    shape: str = "openai"
    variables: Mapping[str, str] = field(default_factory=dict)
    moved: Mapping[str, tuple[str, str]] = field(default_factory=dict)


# Behind each variable is who reads it. Where nobody is named, it is the provider's own SDK, of
# Python or Node. Amazon Bedrock has no place here: what signs its requests signs the host as well.
PROVIDERS: Final = {
    provider.name: provider
    for provider in (
        Provider(
            "openai",
            "https://api.openai.com",
            "/v1",
            variables={
                "OPENAI_BASE_URL": "/v1",  # openai, LiteLLM, Vercel's AI SDK, CrewAI
                "OPENAI_API_BASE": "/v1",  # LangChain, LiteLLM, aider
            },
        ),
        Provider(
            "anthropic",
            "https://api.anthropic.com",
            "/v1",
            shape="anthropic",
            variables={
                # anthropic, Claude Code, LangChain; with /v1 in Vercel's AI SDK
                "ANTHROPIC_BASE_URL": "",
                "ANTHROPIC_API_URL": "",  # LangChain
                "ANTHROPIC_API_BASE": "",  # LiteLLM, aider
            },
        ),
        Provider(
            "azure",
            "https://{resource}.openai.azure.com",
            shape="azure",
            variables={
                "AZURE_OPENAI_ENDPOINT": "",  # openai, LangChain, CrewAI
                "AZURE_API_BASE": "",  # LiteLLM
            },
        ),
        Provider(
            "groq",
            "https://api.groq.com",
            "/openai/v1",
            variables={
                "GROQ_BASE_URL": "",  # groq
                "GROQ_API_BASE": "",  # LangChain; with /openai/v1 in LiteLLM
            },
        ),
        Provider(
            "together",
            "https://api.together.ai",
            "/v1",
            variables={
                "TOGETHER_BASE_URL": "",  # together of Python; with /v1 in Node's
                "TOGETHER_AI_API_BASE": "/v1",  # LiteLLM
            },
            # together 3 for Python asks for chat there, unless it is told a base URL.
            moved={
                "/v1/chat/completions": (
                    "https://api-inference.together.ai",
                    "/v1/chat/completions",
                ),
            },
        ),
        Provider(
            "mistral",
            "https://api.mistral.ai",
            "/v1",
            shape="mistral",
            variables={
                "MISTRAL_BASE_URL": "",  # Inspect; with /v1 in LangChain
                "MISTRAL_API_BASE": "/v1",  # LiteLLM, but for chat
                "MISTRAL_AZURE_API_BASE": "/v1",  # LiteLLM for chat, wherever Mistral is
            },
        ),
        Provider(
            "gemini",
            "https://generativelanguage.googleapis.com",
            "/v1beta",
            shape="google",
            variables={
                "GOOGLE_GEMINI_BASE_URL": "",  # google-genai, Gemini CLI
                "GEMINI_API_BASE": "",  # LiteLLM
            },
        ),
        Provider(
            "vertex",
            "https://{region}-aiplatform.googleapis.com",
            shape="google",
            variables={
                "GOOGLE_VERTEX_BASE_URL": "",  # google-genai, Gemini CLI
                "ANTHROPIC_VERTEX_BASE_URL": "/v1",  # anthropic, Claude Code
            },
        ),
        Provider(
            "openrouter",
            "https://openrouter.ai",
            "/api/v1",
            variables={
                "OPENROUTER_BASE_URL": "/api/v1",  # CrewAI, Inspect
                "OPENROUTER_API_BASE": "/api/v1",  # LiteLLM, LangChain
            },
        ),
        Provider(
            "deepseek",
            "https://api.deepseek.com",  # which has its calls with /v1 and without
            variables={
                "DEEPSEEK_BASE_URL": "/v1",  # CrewAI, Inspect
                "DEEPSEEK_API_BASE": "/v1",  # LangChain, LiteLLM
            },
        ),
        Provider(
            "xai",
            "https://api.x.ai",
            "/v1",
            variables={"XAI_API_BASE": ""},  # LiteLLM; with /v1 in LangChain
        ),
        Provider(
            "fireworks",
            "https://api.fireworks.ai",
            "/inference/v1",
            variables={
                "FIREWORKS_BASE_URL": "",  # fireworks-ai; with /inference/v1 in LangChain's of Node
                "FIREWORKS_API_BASE": "/inference/v1",  # LangChain, LiteLLM
            },
            # fireworks-ai asks so where it is told a base URL.
            moved={
                f"/v1/{call}": ("https://api.fireworks.ai", f"/inference/v1/{call}")
                for call in ("chat/completions", "completions", "messages")
            },
        ),
        Provider(
            "perplexity",
            "https://api.perplexity.ai",  # which has its calls with /v1 and without
            variables={
                "PERPLEXITY_BASE_URL": "",  # perplexityai, Inspect
                "PERPLEXITY_API_BASE": "",  # LiteLLM
            },
        ),
        Provider(
            "cerebras",
            "https://api.cerebras.ai",
            "/v1",
            variables={
                "CEREBRAS_BASE_URL": "",  # cerebras-cloud-sdk; with /v1 in CrewAI
                "CEREBRAS_API_BASE": "/v1",  # LiteLLM
            },
        ),
        Provider(
            "cohere",
            "https://api.cohere.com",
            "/v2",
            shape="cohere",
            variables={"CO_API_URL": ""},  # cohere of Python
        ),
        Provider(
            "ollama",
            "http://127.0.0.1:11434",
            "/v1",
            shape="ollama",
            variables={
                "OLLAMA_HOST": "",  # ollama of Python, its command, CrewAI
                "OLLAMA_BASE_URL": "",  # LangChain's of Node; with /v1 in Pydantic AI, Inspect
                "OLLAMA_API_BASE": "",  # LiteLLM, aider
            },
        ),
        # Those that follow are where LiteLLM, Pydantic AI or Vercel's AI SDK have them, and the
        # variable is LiteLLM's.
        *(
            Provider(name, base, version, variables={variable: version} if variable else {})
            for name, base, version, variable in (
                ("ai21", "https://api.ai21.com", "/studio/v1", "AI21_API_BASE"),
                ("baseten", "https://inference.baseten.co", "/v1", "BASETEN_API_BASE"),
                ("codestral", "https://codestral.mistral.ai", "/v1", "CODESTRAL_API_BASE"),
                (
                    *("dashscope", "https://dashscope-intl.aliyuncs.com"),
                    *("/compatible-mode/v1", "DASHSCOPE_API_BASE"),
                ),
                ("deepinfra", "https://api.deepinfra.com", "/v1/openai", "DEEPINFRA_API_BASE"),
                ("featherless", "https://api.featherless.ai", "/v1", "FEATHERLESS_AI_API_BASE"),
                ("friendli", "https://api.friendli.ai", "/serverless/v1", "FRIENDLI_API_BASE"),
                ("github", "https://models.github.ai", "/inference", ""),
                ("huggingface", "https://router.huggingface.co", "/v1", ""),
                ("hyperbolic", "https://api.hyperbolic.xyz", "/v1", "HYPERBOLIC_API_BASE"),
                ("jina", "https://api.jina.ai", "/v1", "JINA_AI_API_BASE"),
                ("meta", "https://api.llama.com", "/compat/v1", "LLAMA_API_BASE"),
                ("minimax", "https://api.minimax.io", "/v1", "MINIMAX_API_BASE"),
                ("moonshot", "https://api.moonshot.ai", "/v1", "MOONSHOT_API_BASE"),
                ("nebius", "https://api.studio.nebius.ai", "/v1", "NEBIUS_API_BASE"),
                ("novita", "https://api.novita.ai", "/v3/openai", "NOVITA_API_BASE"),
                ("nvidia", "https://integrate.api.nvidia.com", "/v1", "NVIDIA_NIM_API_BASE"),
                ("sambanova", "https://api.sambanova.ai", "/v1", "SAMBANOVA_API_BASE"),
                ("scaleway", "https://api.scaleway.ai", "/v1", ""),
                ("vercel", "https://ai-gateway.vercel.sh", "/v1", "VERCEL_AI_GATEWAY_API_BASE"),
                (
                    "volcengine",
                    "https://ark.cn-beijing.volces.com",
                    "/api/v3",
                    "VOLCENGINE_API_BASE",
                ),
                ("voyage", "https://api.voyageai.com", "/v1", ""),
                ("wandb", "https://api.inference.wandb.ai", "/v1", "WANDB_API_BASE"),
                ("zai", "https://api.z.ai", "/api/paas/v4", "ZAI_API_BASE"),
            )
        ),
    )
}
"""All of them, by name."""
