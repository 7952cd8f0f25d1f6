"""silvertune: fine-tune models on silver labels, and measure which filter of them is worth using."""

__version__ = "0.1.0"
