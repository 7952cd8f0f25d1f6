"""What a filter may ask for, how it is computed, and where it is kept."""
