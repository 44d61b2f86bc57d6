"""Trained policies put to the test: perturbed dynamics, attacked observations."""
