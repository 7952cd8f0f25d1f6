"""Reports: figures, tables and pages, made from the numbers of `silvertune.evaluation`."""
