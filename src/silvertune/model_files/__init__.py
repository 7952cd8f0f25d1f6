"""Files of pretrained models, wherever they came from."""
