"""Files of every layout, read as one kind of source."""
