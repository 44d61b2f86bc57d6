"""The commands of the core package; one function each."""
