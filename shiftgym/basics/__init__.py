"""What everything stands on: errors, ranges of numbers, exact arithmetic, files, the machine."""
