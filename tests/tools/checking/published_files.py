"""The published HDF5 files of this machine, if any, and the mark of tests that need them."""

import os
from pathlib import Path

import pytest

PUBLISHED = os.environ.get("SHIFTGYM_PUBLISHED", "")
FILES = sorted(Path(PUBLISHED).glob("*.hdf5")) if PUBLISHED else []
JOINS = {"hopper_morph_medium_expert": [651, 1319, 2319, 3319]}  # every other file has none

published = pytest.mark.skipif(
    not FILES, reason="set SHIFTGYM_PUBLISHED to a folder of published *.hdf5 files"
)
