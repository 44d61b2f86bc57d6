"""Training: the loop, run directories, checkpoints, resuming, evaluation beside it."""
