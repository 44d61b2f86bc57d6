"""Who answers for the project, where it is, and under which licences: told in one place.

Datasets' metadata, cards, the Croissant record, the datasheet and CITATION.cff all take it from
here. ``python docs/make_datasheet.py`` writes the last four anew after a change.
"""

from __future__ import annotations

TITLE = "shiftgym"
AUTHORS = "The shiftgym authors"
REPOSITORY = ""  # the public address, such as https://github.com/OWNER/shiftgym, once there is one
RELEASED = ""  # when this version was released, such as 2027-01-31, once it is
DATA_LICENCE = "CC-BY-4.0"  # of the packaged sets and of those made from the packaged policies
DATA_LICENCE_URL = "https://creativecommons.org/licenses/by/4.0/"
CODE_LICENCE = "MIT"


def contact() -> str | None:
    """Give where questions and faults go; None while the project has no public address."""
    return f"{REPOSITORY}/issues" if REPOSITORY else None


def permalink(version: str) -> str | None:
    """Give the address of a version's code; None while the project has no public address."""
    return f"{REPOSITORY}/tree/v{version}" if REPOSITORY else None
