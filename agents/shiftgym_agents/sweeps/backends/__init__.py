"""Who runs a sweep's groups: this machine's processes, a Ray cluster, or Slurm."""
