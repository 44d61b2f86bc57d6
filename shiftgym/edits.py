"""The edit grammar: what one line of a shift means, checked before any model is touched.

    geom.foot_geom.friction = { scale = 0.5, index = [0] }
    ---- --------- --------   ---------------------------
    kind   name    attribute             value

``kind`` is a key of :data:`ATTRIBUTES`; ``name`` is a pattern that must match whole element names
(:mod:`shiftgym.patterns`); the value is a list to assign, or a table with ``scale`` (and ``index``
or ``of``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shiftgym.errors import DomainError, nearest, shown
from shiftgym.patterns import compiled

# Attributes a shift may change, with the most components each can take.
ATTRIBUTES: dict[str, dict[str, int]] = {
    "joint": {"range": 2, "pos": 3, "axis": 3, "damping": 1, "armature": 1, "stiffness": 1,
              "frictionloss": 1},
    "geom": {"size": 3, "pos": 3, "fromto": 6, "friction": 3, "density": 1},
    "body": {"pos": 3, "ipos": 3},
    "site": {"pos": 3, "size": 3},
    "actuator": {"gear": 6, "gainprm": 10, "biasprm": 10},
    "option": {"gravity": 3, "wind": 3, "density": 1, "viscosity": 1},
}  # fmt: skip
NONNEGATIVE = {"size", "friction", "damping", "armature", "stiffness", "frictionloss", "density",
               "viscosity"}  # fmt: skip
RULES = {"scale", "index", "of"}


@dataclass(frozen=True)
class Edit:
    """Describe one change of a model's XML-level values.

    Attributes:
        kind: element kind, a key of :data:`ATTRIBUTES`.
        name: pattern of whole element names; empty for ``option``.
        attribute: the element's attribute.
        assign: values to assign to the leading components (XML units of the asset), or None.
        scale: factors to multiply by, one or one per component, or None.
        index: components that ``scale`` applies to; None means all.
        of: values to scale instead of the asset's own.
    """

    kind: str
    name: str
    attribute: str
    assign: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    index: tuple[int, ...] | None = None
    of: tuple[float, ...] | None = None

    @property
    def target(self) -> str:
        """Give what is edited, as written: ``geom.foot_geom.friction``."""
        return ".".join(part for part in (self.kind, self.name, self.attribute) if part)

    def rule(self) -> str:
        """Give what is done to it, as a person would write it: ``x 0.5`` or ``= -0.15 0``."""
        if self.assign is not None:
            return "= " + numbers(self.assign)
        assert self.scale is not None
        where = "" if self.index is None else f" [{', '.join(map(str, self.index))}]"
        base = "" if self.of is None else f" of {numbers(self.of)}"
        return f"x {numbers(self.scale)}{where}{base}"

    def value(self) -> Any:
        """Give the value as JSON, in the same grammar that :func:`parse_edits` reads."""
        if self.assign is not None:
            return list(self.assign)
        parts = {"scale": self.scale, "index": self.index, "of": self.of}
        return {key: list(part) for key, part in parts.items() if part is not None}


def numbers(values: Sequence[float]) -> str:
    """Format numbers compactly, separated by spaces."""
    return " ".join(f"{value:g}" for value in values)


def parse_edits(tree: Mapping[str, Any], level: float | None = None) -> tuple[Edit, ...]:
    """Read edits from nested tables, or from dotted keys, and check each of them.

    Args:
        tree: ``{"geom": {"foot_geom": {"friction": {"scale": 0.5}}}}`` or
            ``{"geom.foot_geom.friction": {"scale": 0.5}}``; the two may be mixed.
        level: the factor that the word ``"level"`` stands for.

    Returns:
        The edits, in the order written.

    Raises:
        DomainError: an unknown kind, attribute or rule; a value that is not finite, has too many
            components or the wrong sign; ``"level"`` without a level.
    """
    if not isinstance(tree, Mapping):
        raise DomainError(
            f"Edits are a table such as {{'geom.foot_geom.friction': {{'scale': 0.5}}}}, "
            f"got {shown(tree)}."
        )
    return tuple(_edit(*path, value, level) for path, value in _leaves(tree))


def dump_edits(edits: Sequence[Edit]) -> dict[str, Any]:
    """Write edits as a JSON-able mapping that :func:`parse_edits` reads back."""
    tree: dict[str, Any] = {}
    for edit in edits:
        if edit.target in tree:
            raise DomainError(f"{edit.target} is edited twice; JSON keeps one. Merge the two.")
        tree[edit.target] = edit.value()
    return tree


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Yield ``((kind, name, attribute), value)`` for every edit of a tree."""
    for key, value in tree.items():
        kind, _, rest = str(key).partition(".")
        if kind not in ATTRIBUTES:
            raise DomainError(
                f"Unknown kind {shown(kind)} in edit {shown(key)}. {nearest(kind, ATTRIBUTES)}"
            )
        if rest and kind == "option":
            yield (kind, "", rest), value
        elif rest:
            name, dot, attribute = rest.rpartition(".")
            if not dot:
                raise DomainError(f"Edit {key!r} needs three parts: kind.name.attribute.")
            yield (kind, name, attribute), value
        elif not isinstance(value, Mapping):
            raise DomainError(f"Edit {key!r} names no attribute: write {key}.<name>.<attribute>.")
        elif kind == "option":
            for attribute, leaf in value.items():
                yield (kind, "", attribute), leaf
        else:
            for name, attributes in value.items():
                if not isinstance(attributes, Mapping):
                    raise DomainError(f"Edit {key}.{name} names no attribute.")
                for attribute, leaf in attributes.items():
                    yield (kind, name, attribute), leaf


def _edit(kind: str, name: str, attribute: str, value: Any, level: float | None) -> Edit:
    target = ".".join(part for part in (kind, name, attribute) if part)[:200]
    if attribute not in ATTRIBUTES[kind]:
        raise DomainError(
            f"A {kind} has no editable attribute {shown(attribute)}. "
            f"{nearest(attribute, ATTRIBUTES[kind])}"
        )
    try:
        compiled(name)
    except ValueError as error:
        raise DomainError(f"{shown(name)} in {target} is no pattern of names. {error}.") from None
    most = ATTRIBUTES[kind][attribute]
    if not isinstance(value, Mapping):
        assign = _numbers(value, target, most, level)
        if attribute == "range" and not (len(assign) == 2 and assign[0] <= assign[1]):
            raise DomainError(f"{target} needs [low, high] with low <= high, got {list(assign)}.")
        if attribute in NONNEGATIVE and min(assign) < 0:
            raise DomainError(f"{target} cannot be negative, got {list(assign)}.")
        return Edit(kind, name, attribute, assign=assign)
    for rule in value:
        if rule not in RULES:
            raise DomainError(f"Unknown rule {shown(rule)} in {target}. {nearest(rule, RULES)}")
    if "scale" not in value:
        raise DomainError(f"{target} needs a 'scale', or a plain list of values to assign.")
    scale = _numbers(value["scale"], target, most, level)
    if attribute in NONNEGATIVE | {"range"} and min(scale) < 0:
        raise DomainError(f"{target} cannot be scaled by a negative factor, got {list(scale)}.")
    index = value.get("index")
    if index is not None:
        index = tuple(index) if isinstance(index, Sequence) else (index,)
        if not all(isinstance(i, int) and 0 <= i < most for i in index):
            raise DomainError(
                f"{target}: index must be components 0 to {most - 1}, got {shown(index)}."
            )
    of = None if "of" not in value else _numbers(value["of"], target, most, level)
    return Edit(kind, name, attribute, scale=scale, index=index, of=of)


def is_finite(value: Any) -> bool:
    """Say whether a value of somebody's file is a number, neither infinite nor too large."""
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def _numbers(value: Any, target: str, most: int, level: float | None) -> tuple[float, ...]:
    """Check one number, ``"level"``, or a list of them, and give it as a tuple."""
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    result: list[float] = []
    for item in items:
        if item == "level":
            if level is None:
                raise DomainError(f"{target} says 'level', but no level was given.")
            item = level
        if isinstance(item, bool) or not isinstance(item, int | float):
            raise DomainError(f"{target} needs numbers, got {shown(item)}.")
        if not is_finite(item):
            raise DomainError(f"{target} needs finite numbers, got {shown(item)}.")
        result.append(float(item))
    if not 1 <= len(result) <= most:
        raise DomainError(f"{target} takes 1 to {most} numbers, got {len(result)}.")
    return tuple(result)
