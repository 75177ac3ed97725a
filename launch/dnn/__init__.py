"""Networks of the user's own: a layer table by tracing, a pruning table by measuring, examples."""
