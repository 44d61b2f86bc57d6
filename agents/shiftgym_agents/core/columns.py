"""Name the columns of `metrics.csv` that are not a method's own."""

KEYS = ("stage", "update", "run", "source", "target", "seed")
EVALUATED = ("return", "score", "length")
