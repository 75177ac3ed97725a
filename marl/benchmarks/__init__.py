"""Speed as numbers: each file measures one part of the product against a reference in the same run."""
