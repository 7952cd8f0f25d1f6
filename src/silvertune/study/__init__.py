"""The life of a sweep: expand, check or plan, run, compare."""
