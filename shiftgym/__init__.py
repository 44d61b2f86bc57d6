"""Shifted Gymnasium environments and datasets for cross-domain offline reinforcement learning.

Importing registers every id: ``gymnasium.make("ShiftHopper-kinematic-v0")``.
"""

from shiftgym.datasets.load import load
from shiftgym.datasets.names import DatasetName, dataset_name
from shiftgym.datasets.pair import Pair
from shiftgym.domains import Domain, catalogue, domain, load_domains, make_domain, robots
from shiftgym.errors import ActionError, DomainError, EngineError, RenderError, ShiftgymError
from shiftgym.registration import make_vec, register_all

__version__ = "0.1.0"
__all__ = [
    "ActionError",
    "DatasetName",
    "Domain",
    "DomainError",
    "EngineError",
    "Pair",
    "RenderError",
    "ShiftgymError",
    "catalogue",
    "dataset_name",
    "domain",
    "load",
    "load_domains",
    "make_domain",
    "make_vec",
    "register_all",
    "robots",
]

register_all()
