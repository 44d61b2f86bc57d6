"""Whether data are what they say: replay, flags, joins, style, fidelity."""
