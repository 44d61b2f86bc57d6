"""Train the reference agents of shiftgym: many runs at once along a leading runs axis.

What users call is handed on here, and loaded when it is asked for; listing methods needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shiftgym_agents.core.pairs import ArrayPair
    from shiftgym_agents.methods.table import METHODS, method, settings
    from shiftgym_agents.training.run_config import TrainOptions
    from shiftgym_agents.training.trained import TrainedPolicy, load
    from shiftgym_agents.training.trainer import Trainer

__all__ = [
    "METHODS",
    "ArrayPair",
    "TrainOptions",
    "TrainedPolicy",
    "Trainer",
    "load",
    "method",
    "settings",
]
PLACES = {
    "ArrayPair": "core.pairs",
    "METHODS": "methods.table",
    "TrainOptions": "training.run_config",
    "TrainedPolicy": "training.trained",
    "Trainer": "training.trainer",
    "load": "training.trained",
    "method": "methods.table",
    "settings": "methods.table",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for."""
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    """List what there is."""
    return sorted({*globals(), *__all__})
