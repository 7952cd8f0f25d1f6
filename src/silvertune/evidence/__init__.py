"""Evidence: what filters may ask for about one training pool, computed when asked and kept on disk."""
