"""What every method stands on: the agent, stacked networks, losses, policies, captured graphs."""
