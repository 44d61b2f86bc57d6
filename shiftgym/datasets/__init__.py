"""Datasets: names, flat arrays, Minari files, packaged sets."""

from shiftgym.datasets.flat import FIELDS, Flat, check_flat, episode_bounds, episode_returns
from shiftgym.datasets.names import DatasetName, dataset_name

__all__ = [
    "FIELDS",
    "DatasetName",
    "Flat",
    "check_flat",
    "dataset_name",
    "episode_bounds",
    "episode_returns",
]
