"""The hands' policies: PPO from an expert or from scratch, and imitation of own episodes."""
