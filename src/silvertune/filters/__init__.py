"""Which silver labels to keep: one module a kind of evidence, one function a filter.

Parameters named like evidence (`silvertune.evidence`) are filled from it; the others come from the filter's
yaml. A filter returns a boolean Series indexed by item_id, True = keep, or a DataFrame with `keep` and any of
`score` (higher = rather keep), `weight`, `reason`. Labels are never changed here, and items without a label are
never kept, whatever a filter says of them.

What keeps a fraction of each class rounds up, so that no class is lost; where a threshold loses one, the run
fails and says which (`silvertune.runner`).
"""
