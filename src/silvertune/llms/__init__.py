"""The LLMs that a labeler can ask, and how they are asked."""

from silvertune.llms.anthropic import Anthropic
from silvertune.llms.gemini import Gemini
from silvertune.llms.interface import Limits, Price
from silvertune.llms.local_causal_lm import LocalCausalLM
from silvertune.llms.openai_compatible import OpenAICompatible
from silvertune.llms.questions import StorePlace

__all__ = [
    "Anthropic",
    "Gemini",
    "Limits",
    "LocalCausalLM",
    "OpenAICompatible",
    "Price",
    "StorePlace",
]
