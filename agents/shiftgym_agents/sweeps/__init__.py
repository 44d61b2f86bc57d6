"""Sweeps: grids of trainings as data, what is left of them, and who trains it."""
