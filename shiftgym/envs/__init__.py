"""The environments: one file per robot family, one single and one vector environment."""
