"""What every method stands on: the agent, stacked networks, losses, data, policies, kernels."""
