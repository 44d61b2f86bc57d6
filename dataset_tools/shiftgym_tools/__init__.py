"""Make the data of shiftgym: train behaviour policies, collect, import, verify, publish.

Most of it is used through commands; what Python users call is handed on here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shiftgym_tools.comparing.style import measure_style
    from shiftgym_tools.importers import import_dataset
    from shiftgym_tools.making.collect import collect

__all__ = ["collect", "import_dataset", "measure_style"]
PLACES = {
    "collect": "making.collect",
    "import_dataset": "importers",
    "measure_style": "comparing.style",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for."""
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    """List what there is."""
    return sorted({*globals(), *__all__})
