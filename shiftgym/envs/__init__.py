"""The environments: one file per robot family, one single and one vector environment."""

from shiftgym import engine  # noqa: F401  (first: Gymnasium's classes import MuJoCo unexplained)
