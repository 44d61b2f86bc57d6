# MuJoCo ships no type information for its compiled names.
from typing import Any

def __getattr__(name: str) -> Any: ...
