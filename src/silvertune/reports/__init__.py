"""Numbers in, figures and pages out."""
