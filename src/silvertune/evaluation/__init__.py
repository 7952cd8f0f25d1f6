"""Predictions of the test items, and what they are worth."""
