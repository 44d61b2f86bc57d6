"""Train the reference agents of shiftgym: many runs at once along a leading runs axis.

What users call is handed on here, and loaded when it is asked for; listing methods needs no torch.
"""

from typing import TYPE_CHECKING

from shiftgym.basics.handing_on import hand_on

if TYPE_CHECKING:
    from shiftgym_agents.data.pairs import ArrayPair
    from shiftgym_agents.data.places import place
    from shiftgym_agents.data.sources import Sources
    from shiftgym_agents.methods.table import METHODS, method, settings
    from shiftgym_agents.training.run_config import TrainOptions
    from shiftgym_agents.training.trained import TrainedPolicy, load
    from shiftgym_agents.training.trainer import Trainer

__all__ = [
    "METHODS",
    "ArrayPair",
    "Sources",
    "TrainOptions",
    "TrainedPolicy",
    "Trainer",
    "load",
    "method",
    "place",
    "settings",
]
PLACES = {
    "ArrayPair": "data.pairs",
    "METHODS": "methods.table",
    "Sources": "data.sources",
    "TrainOptions": "training.run_config",
    "TrainedPolicy": "training.trained",
    "Trainer": "training.trainer",
    "load": "training.trained",
    "method": "methods.table",
    "place": "data.places",
    "settings": "methods.table",
}
__getattr__, __dir__ = hand_on(__name__, PLACES)
