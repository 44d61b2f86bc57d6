"""Patterns of element names: the plain part of regular expressions, matched in bounded time.

    foot_geom            the name itself
    .                    any one character
    .*   .+              any run of characters; of at least one
    hip_[12]  [^a-c]     one of these characters; none of these
    (left|right)_foot    one or the other; also without the brackets, for whole names
    foot(_left)?  feet?  with it or without it

Nothing else is a pattern: with repeats of groups, a name in somebody's file could take for ever.
"""

from __future__ import annotations

import re
from functools import lru_cache

PLAIN = re.compile(r"(?:[\w -]|\.[*+]?|\[\^?[\w-]+\])*", re.ASCII)
GROUP = re.compile(r"\(([^()]*)\)(\??)(?![*+?{])")  # the innermost, which nothing repeats
OPTIONAL = re.compile(r"(\[[^]]*\]|[\w.-])\?")
LONGEST, MOST = 400, 256  # characters of a pattern; alternatives that it may stand for
GRAMMAR = (
    "A name is written with letters, digits, '_' and '-', with '.' for any character, '.*' for any "
    "run of them, '[12]' for one of some, '(left|right)' for one or the other and '(_left)?' for "
    "what may be missing"
)


def matches(pattern: str, name: str) -> bool:
    """Say whether a pattern matches a whole name.

    Raises:
        ValueError: it is no pattern; the message says what one is.
    """
    return any(part.fullmatch(name) for part in compiled(pattern))


@lru_cache(1024)
def compiled(pattern: str) -> tuple[re.Pattern[str], ...]:
    """Give one regular expression per alternative; none of them goes back over a name.

    Raises:
        ValueError: it is no pattern; the message says what one is.
    """
    if len(pattern) > LONGEST:
        raise ValueError(f"It is longer than {LONGEST} characters. {GRAMMAR}")
    waiting, found = [OPTIONAL.sub(r"(\1)?", pattern)], []
    while waiting:
        one = waiting.pop()
        if group := GROUP.search(one):
            parts = group[1].split("|") + ([""] if group[2] else [])
            waiting += [one[: group.start()] + part + one[group.end() :] for part in parts]
        elif "|" in one:
            waiting += one.split("|")
        else:
            found.append(one)
        if len(waiting) + len(found) > MOST:
            raise ValueError(f"It stands for more than {MOST} names. {GRAMMAR}")
    if not all(PLAIN.fullmatch(one) for one in found):
        raise ValueError(GRAMMAR)
    try:
        return tuple(re.compile(_forward(one)) for one in found)
    except re.error as error:  # such as [z-a]
        raise ValueError(f"{error}. {GRAMMAR}") from None


def _forward(pattern: str) -> str:
    """Write a pattern so that what stands between two runs is found once, at its first place.

    That is enough, since all of it is of fixed length, and it takes time in proportion to the
    lengths of pattern and name.
    """
    first, *others = re.split(r"\.\*", re.sub(r"\.\+", "..*", pattern))
    if not others:
        return first
    middle = "".join(f"(?>.*?{part})" for part in others[:-1] if part)
    return f"{first}{middle}.*{others[-1]}"
