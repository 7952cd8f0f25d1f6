"""Models in use: loaded from where they are registered, and applied to files."""
