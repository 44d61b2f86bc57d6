"""Make the data of shiftgym: train behaviour policies, collect, import, verify, publish.

Most of it is used through commands; what Python users call is handed on here.
"""

from typing import TYPE_CHECKING

from shiftgym.basics.handing_on import hand_on

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
__getattr__, __dir__ = hand_on(__name__, PLACES)
