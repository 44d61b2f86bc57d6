"""What agents learn from: pairs, sources, places, bounds of actions, and the rows in batches."""
