"""Lay a diagnosis out for a terminal: one page, from the verdict down to the numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from shiftgym.basics.pages import interval
from shiftgym_agents.reports.report import lay_out

WIDTH = 100
COORDINATES = 12  # that the terminal shows; the page and the JSON have all
Table = tuple[str, list[tuple[str, ...]]]  # title, lines of cells, headings first
KINDS = {"states": "states", "states_and_actions": "states and actions", "transitions": "+ changes"}


def number(value: float | None, form: str = ".2f") -> str:
    """Write a number, or a dash."""
    return "-" if value is None else f"{value:{form}}"


def ranged(values: Sequence[float | None], form: str = ".1f") -> str:
    """Write mean, low and high, or a dash."""
    known = [value for value in values if value is not None]
    return interval(known[0], known[1], known[2], form) if len(known) == 3 else "-"


def tables(told: Mapping[str, Any], most: int | None = None) -> list[Table]:
    """Give the tables of a diagnosis.

    Args:
        told: what `Diagnosis.told` holds.
        most: coordinates that are shown, those of the largest gaps; None for all in order.
    """
    found = [_overlap(told["overlap"]), _dynamics(told["dynamics"]), _value(told["value"])]
    found.insert(2, _coordinates(told["dynamics"]["coordinates"], most))
    found.append(_filters(told["filters"]))
    if "training" in told:
        found.append(_training(told["training"]))
    return found


def _overlap(told: Mapping[str, Any]) -> Table:
    lines = [("told apart by", "held-out AUC", "p")]
    lines += [
        (text, number(told[k]["auc"]), number(told[k]["p"], ".3f")) for k, text in KINDS.items()
    ]
    lines.append(
        ("target states with a source state near", f"{told['target_states_covered']:.0%}", "")
    )
    lines.append(("target rows with a source row near", f"{told['target_pairs_covered']:.0%}", ""))
    lines.append(("source rows near to a target row", f"{told['source_rows_near']:.0%}", ""))
    return (
        "(a) overlap: 0.50 where nothing tells the two apart, 1.00 where any row can be told",
        lines,
    )


def _dynamics(told: Mapping[str, Any]) -> Table:
    gap = "too few rows to compare" if told["gap"] is None else ranged(told["gap"], ".2f")
    foreign = told["rows_that_look_foreign"]
    own = told["transport_cost_of_the_target_itself"]
    lines = [
        ("measure", "found", "beside"),
        ("error on source rows", gap, "1 = the model's own held-out error"),
        ("that held-out error", number(told["held_out_error"]), "1 = a model that knows nothing"),
        ("source rows that look foreign", "-" if foreign is None else f"{foreign:.0%}", "5%"),
        ("rows compared are worth", number(told["rows_worth"], ".0f"), "50 at least"),
        ("transport cost", number(told["transport_cost"]), f"{own:.2f}, the target to itself"),
    ]
    called = "a gap" if told["called"] else "no gap found" if told["compared"] else "not compared"
    return f"(b) dynamics: {called}", lines


def _coordinates(each: Sequence[Mapping[str, Any]], most: int | None) -> Table:
    shown = list(each)
    if most is not None and len(shown) > most:
        shown = sorted(shown, key=lambda row: -(row["gap"] or 0))[:most]
    lines = [("coordinate", "gap", "at least", "", "held-out error", "mean differs by", "KS")]
    lines += [
        (row["name"], number(row["gap"]), number(row["gap_low"]),
         "DIFFERS" if row["differs"] else "", number(row["held_out_error"]),
         number(row["mean_difference"], "+.2f"), number(row["distribution_distance"]))
        for row in shown
    ]  # fmt: skip
    rest = "" if len(shown) == len(each) else f", the {len(shown)} of largest gap of {len(each)}"
    return f"(b) coordinates of the state{rest}", lines


def _value(told: Mapping[str, Any]) -> Table:
    lines = [("dataset", "rows", "trajectories", "return [95 %]", "score", "steps")]
    for side in ("source", "target"):
        own = told[side]
        lines.append(
            (side, str(own["rows"]), str(own["trajectories"]),
             ranged((own["mean"], own["low"], own["high"])), number(own["score"], ".1f"),
             number(own["length"], ".0f"))
        )  # fmt: skip
    gain = told["advantage_of_source_actions"]
    told_gain = ranged((gain["mean"], gain["low"], gain["high"]), ".2f")
    return (
        f"(c) value; advantage of the source's actions in target states {told_gain} deviations of "
        f"Q, better in {gain['better']:.0%} of them, {gain['apart']:.2f} half boxes apart",
        lines,
    )


def _filters(told: Mapping[str, Any]) -> Table:
    names = [each["name"] for each in told["each"]]
    lines = [("filter", "keeps", "near target", "mean reward", *(f"~ {name}" for name in names))]
    lines.append(
        ("all source rows", "100%", f"{told['near_target']:.0%}", number(told["mean_reward"]),
         *[""] * len(names))
    )  # fmt: skip
    for each, row in zip(told["each"], told["rank_correlation"], strict=True):
        name = each["name"]
        parts = each.get("kept_of_part", {})
        keeps = f"{each['keep']:.0%}" + "".join(f" {p} {v:.0%}" for p, v in parts.items())
        near, reward = f"{each['near_target']:.0%}", number(each["mean_reward"])
        lines.append((name, keeps, near, reward, *(number(value) for value in row)))
    return "(d) filters; ~ is the correlation of ranks, 1 where they agree, 0 by chance", lines


def _training(told: Mapping[str, Any]) -> Table:
    lines = [("method", "source", f"mean {told['unit']}", "seeds")]
    for kind in ("alone", "using"):
        for name, values in told[kind].items():
            good = [value for value in values if value is not None]
            mean = number(sum(good) / len(good), ".1f") if good else "-"
            seeds = ", ".join(number(value, ".1f") for value in values)
            lines.append((name, "with" if kind == "using" else "without", mean, seeds))
    return "(e) short trainings", lines


def page(told: Mapping[str, Any]) -> str:
    """Write the report for a terminal."""
    verdict, sample = told["verdict"], told["sample"]
    parts = [
        f"{told['source']} -> {told['target']}: {sample['source_rows']} and "
        f"{sample['target_rows']} rows looked at, {told['seconds']:.0f} s"
    ]
    if sample["trajectories_cut"]:
        parts[0] += (
            "\nSo few trajectories were cut into stretches, which are alike: p is optimistic."
        )
    for title, lines in tables(told, COORDINATES):
        parts.append(f"{title}\n" + textwrap.indent(lay_out(lines), "  "))
    said = [_filled(verdict["sentence"])]
    said += [_filled(each, "  - ", "    ") for each in verdict["because"]]
    if verdict["basis"] == "training":
        said.append(_filled(f"Before training: {told['data_alone']['sentence']}"))
    return "\n\n".join([*parts, "\n".join(said)])


def _filled(text: str, first: str = "", then: str = "") -> str:
    """Wrap text; names of methods stay whole."""
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=then, break_on_hyphens=False
    )
