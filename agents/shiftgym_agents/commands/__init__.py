"""The commands of the agents; one file each."""
