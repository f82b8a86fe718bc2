"""A stand-in upstream: a server on loopback that speaks the OpenAI API well enough for its SDK.

It speaks the APIs of Azure, Anthropic, Bedrock, Vertex, Google, Ollama and Cohere as far as the
tests ask. Every answer is unique, so that an answer from a cache can be told from a second call.
"""

from standin.manner import SECRET_HEADERS, Manner
from standin.server import Upstream
from standin.wire import Part, Request

__all__ = ["SECRET_HEADERS", "Manner", "Part", "Request", "Upstream"]
