"""Name the type of numpy arrays, whatever they hold."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
