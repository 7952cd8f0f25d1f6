"""Students: what is tuned."""

from silvertune.models.causal_lora import CausalLora
from silvertune.models.encoder_classifier import EncoderClassifier
from silvertune.models.gemini_tuned import GeminiTuned
from silvertune.models.tfidf_logreg import TfidfLogreg

__all__ = [
    "CausalLora",
    "EncoderClassifier",
    "GeminiTuned",
    "TfidfLogreg",
]
