"""Data of any robot, from files, Minari sets and arrays, as flat arrays."""
