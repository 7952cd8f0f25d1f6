"""Evaluation: metrics of predictions and labels, comparisons of arms, findings and alarms."""
