"""Students: what is tuned."""

from silvertune.models.encoder_classifier import EncoderClassifier
from silvertune.models.tfidf_logreg import TfidfLogreg

__all__ = [
    "EncoderClassifier",
    "TfidfLogreg",
]
