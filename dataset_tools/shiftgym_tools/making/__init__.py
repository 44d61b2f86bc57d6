"""Datasets made from policies: planned, collected in blocks, resumed, compared."""
