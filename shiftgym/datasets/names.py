"""Names of datasets: a domain, a quality and, where it is not the usual one, a size.

    short form                  Minari id                                    transitions
    hopper/medium               shiftgym/hopper/medium-v0                    1,000,000 (a source)
    hopper-kinematic/medium     shiftgym/hopper-kinematic/medium-v0              5,000 (a target)
    hopper-kinematic/medium-1m  shiftgym/hopper-kinematic/medium-1m-v0       1,000,000
    hopper/medium-1234          shiftgym/hopper/medium-1234-v0                   1,234
    hopper/medium-replay        shiftgym/hopper/medium-replay-v0               500,000
    hopper/medium-made_seed5    shiftgym/hopper/medium-made_seed5-v0         1,000,000: other
    hopper/medium-5k-made_mine  shiftgym/hopper/medium-5k-made_mine-v0           5,000: other
    hopper/medium-d4rl          shiftgym/hopper/medium-d4rl-v0               any: imported, not ours
    hopper/medium-from_lab7     shiftgym/hopper/medium-from_lab7-v0          any: imported

Imported data carry whose they are instead of a size. A set made with other policies, another seed,
other streams or another engine than its name stands for says so in a last word, `made_...`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from shiftgym.domains import Domain, domain
from shiftgym.errors import DomainError, nearest

QUALITIES = (
    "random", "medium", "medium-replay", "medium-expert", "expert",
    "medium-best", "best",  # where no policy reaches the bar of an expert
)  # fmt: skip
HANDS_QUALITIES = ("human", "cloned")  # recorded from people, or cloned from them
HANDS = ("pen", "door")
NAMESPACE = "shiftgym"
SOURCE_SIZE = 1_000_000
TARGET_SIZE = 5_000
REPLAY_SIZE = 500_000  # a source in either direction; D4RL's hold 200,000 to 400,000
MAX_SIZE = 10**10
ORIGINS = ("d4rl", "otdf", "odrl", "minari")  # whose data are imported under their own name
OWN_ORIGIN = re.compile(r"from_[a-z0-9_]{1,40}")  # anybody else's
MADE = re.compile(r"made_[a-z0-9_]{1,40}")  # made here, but not as the rest of the name says
SIZE = re.compile(r"([1-9]\d{0,10})([km]?)")


@dataclass(frozen=True)
class DatasetName:
    """Name the transitions of one quality in one domain.

    Attributes:
        domain: where they were recorded.
        quality: one of :func:`qualities`.
        size: number of transitions; of no account in the name where there is an origin.
        origin: whose data were imported, ``otdf`` or ``from_lab7``; empty for shiftgym's own.
        made: how a set was made otherwise, ``made_seed5``; empty for the package's own.
    """

    domain: Domain
    quality: str
    size: int
    origin: str = ""
    made: str = ""

    @property
    def label(self) -> str:
        """Give the part after the domain: ``medium``, or ``medium-1m`` of an unusual size."""
        if self.origin:
            return f"{self.quality}-{self.origin}"
        usual = self.size == usual_size(self.domain, self.quality)
        words = [self.quality, "" if usual else size_token(self.size), self.made]
        return "-".join(word for word in words if word)

    @property
    def short(self) -> str:
        """Give the name as commands take it: ``hopper-kinematic/medium``."""
        return f"{self.domain.slug}/{self.label}"

    @property
    def minari(self) -> str:
        """Give the Minari id: ``shiftgym/hopper-kinematic/medium-v0``."""
        return f"{NAMESPACE}/{self.short}-v0"

    def sized(self, size: int) -> DatasetName:
        """Give the name of the same quality in the same domain with another size."""
        return replace(self, size=size)

    @property
    def own(self) -> DatasetName:
        """Give the package's own set that this one was made otherwise than."""
        return replace(self, made="")

    def __str__(self) -> str:
        """Give the short form."""
        return self.short


def usual_size(of: Domain, quality: str) -> int:
    """Give the size that a name leaves out: 1,000,000 unshifted, 5,000 shifted.

    A ``medium-replay`` set has 500,000 in every domain.
    """
    if quality == "medium-replay":
        return REPLAY_SIZE
    return SOURCE_SIZE if of.shift is None else TARGET_SIZE


def qualities(of: Domain) -> tuple[str, ...]:
    """List the qualities that data of a domain may have."""
    return QUALITIES + (HANDS_QUALITIES if of.robot in HANDS else ())


def size_token(size: int) -> str:
    """Write a size as names do: 1,000,000 is ``1m``, 5,000 is ``5k``, 1,234 is ``1234``."""
    for unit, token in ((1_000_000, "m"), (1_000, "k")):
        if size % unit == 0:
            return f"{size // unit}{token}"
    return str(size)


def split_name(text: str) -> tuple[str, str]:
    """Split a name into the domain's part and the label, without looking either up.

    Example:
        >>> split_name("shiftgym/hopper-kinematic/medium-v0")
        ('hopper-kinematic', 'medium')

    Raises:
        DomainError: not of the form ``<domain>/<quality>``.
    """
    place, slash, label = text.removeprefix(f"{NAMESPACE}/").removesuffix("-v0").rpartition("/")
    if not slash or not place or not label:
        raise DomainError(
            f"A dataset is named <domain>/<quality>, such as hopper-kinematic/medium; got {text!r}."
        )
    return place, label


def dataset_name(text: str | DatasetName, of: Domain | None = None) -> DatasetName:
    """Read a dataset's name.

    Args:
        text: ``hopper-kinematic/medium``, ``shiftgym/hopper-kinematic/medium-v0``,
            ``hopper/medium-100k``, ``my.toml:hopper-slippery/medium``, or a :class:`DatasetName`,
            which is given back.
        of: the domain, where the name's own part cannot say it: a domain made in Python.

    Raises:
        DomainError: unknown domain, quality or size; the message names the nearest choice.
    """
    if isinstance(text, DatasetName):
        return text
    place, label = split_name(text)
    if of is not None and place != of.slug:
        raise DomainError(f"{text!r} does not name a dataset of {of.slug}.")
    found = domain(place) if of is None else of
    known = qualities(found)
    quality = max(
        (q for q in known if label == q or label.startswith(q + "-")), key=len, default=""
    )
    if not quality:
        raise DomainError(f"{found.slug} has no quality {label!r}. {nearest(label, known)}")
    usual = usual_size(found, quality)
    token = label.removeprefix(quality).removeprefix("-")
    if is_origin(token):
        return DatasetName(found, quality, usual, token)
    size, _, made = token.rpartition("-")
    if not MADE.fullmatch(made):
        size, made = token, ""
    return DatasetName(found, quality, read_size(size, text) if size else usual, made=made)


def made_word(words: str) -> str:
    """Give the word that says how a set was made otherwise: ``made_`` and what it is told.

    Raises:
        DomainError: not letters, digits and ``_``, or more than 40.
    """
    word = f"made_{words.lower().removeprefix('made_')}"
    if not MADE.fullmatch(word):
        raise DomainError(
            f"--name is one word of letters, digits and '_' (up to 40), got {words!r}; the set is "
            "then called hopper/medium-made_word."
        )
    return word


def is_origin(token: str) -> bool:
    """Say whether a word names where imported data come from: ``d4rl``, ``from_lab7``."""
    return token in ORIGINS or OWN_ORIGIN.fullmatch(token) is not None


def read_size(token: str, text: str | None = None) -> int:
    """Read a size such as ``5k``, ``1m`` or ``1234``.

    Raises:
        DomainError: not a size, or out of range.
    """
    match = SIZE.fullmatch(token)
    size = int(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2]] if match else 0
    if not 0 < size <= MAX_SIZE:
        where = f" in {text!r}" if text else ""
        raise DomainError(
            f"{token!r}{where} is no size: write 5k, 1m or 1234, up to {MAX_SIZE:,} transitions."
        )
    return size
