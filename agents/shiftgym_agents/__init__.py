"""Train the reference agents of shiftgym: many runs at once along a leading runs axis."""
