"""Pretrained encoders, and the states of their frozen layers."""

from silvertune.encoders.encoder import Encoder

__all__ = [
    "Encoder",
]
