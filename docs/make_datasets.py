"""Write docs/datasets_<family>.md with pictures: python docs/make_datasets.py [FAMILY ...].

Target sets are those in the package; what they measure, beside the published sets of the same name,
comes from `python docs/make_measures.py`, which runs first. Of every unshifted robot a sample of
5,000 transitions per packaged tier is collected for the purpose, the same every time. Without
families, all are written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from make_measures import sample
from measure_tables import HOW_TO_COMPARE, compared, earned, styles

from shiftgym.basics.pages import markdown
from shiftgym.datasets import dataset_name
from shiftgym.datasets.flat import Flat, episode_returns
from shiftgym.datasets.names import HANDS, DatasetName
from shiftgym.datasets.packaged import load_packaged, packaged_index
from shiftgym.datasets.tiers import policy_of
from shiftgym.domains import catalogue, episode_steps, robots
from shiftgym.making import domain
from shiftgym.policies import POLICIES, top_policy
from shiftgym.scores import MEASURED, default_reference, reference

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = Path(__file__).parent
HEADS = ("set", "episodes", "mean return", "score", "behaviour", "made by")
PICTURES = "datasets"  # folder of the pictures
COLOURS = {
    "medium": "#3b75af", "medium-expert": "#8d69b8", "medium-best": "#8d69b8",
    "expert": "#d1662a", "best": "#d1662a",
}  # fmt: skip
GREY = "#b5b5b5"
RUNNERS = [robot for robot in robots() if robot not in HANDS]
FAMILIES: dict[str, tuple[str, str, Callable[[DatasetName], bool]]] = {
    "kinematic": (
        "Kinematic shifts", "one joint moves through a smaller range",
        lambda name: name.domain.robot in RUNNERS and name.domain.shift == "kinematic",
    ),
    "morph": (
        "Morphology shifts", "limbs or the torso have other sizes",
        lambda name: name.domain.robot in RUNNERS and name.domain.shift == "morph",
    ),
    "friction": (
        "Friction shifts", "feet and floor hold a tenth, half, twice or five times as well",
        lambda name: name.domain.family == "friction",
    ),
    "gravity": (
        "Gravity shift", "everything weighs half",
        lambda name: name.domain.family == "gravity",
    ),
    "hands": (
        "Hands", "finger joints are stuck, or fingers are shrunk",
        lambda name: name.domain.robot in HANDS and name.domain.shift is not None,
    ),
}  # fmt: skip
HOW_TO_READ = """\
Returns are of whole episodes; dotted lines are the references that count as 0 (random actions) and
100 (expert). A robot that does not fall fills 5,000 transitions with five episodes, so that its
histogram of returns is a few bars.
"""
FURTHER = """\
# Target sets: further levels

The remaining domains of the catalogue: the other gravities, the graded levels of joints and limbs,
and the hands' easy and mended ones. Their policies are in the package, their sets are not: each is
made on your machine in seconds, the same bytes everywhere, and checked against the checksum that
the package carries. `medium-expert` (`medium-best`) is half and half.

```
shiftgym data make hopper-gravity-x2/medium
```

Returns are of the policies as they act in the data, means of 100 episodes (hands: 400) with 95 %
bootstrap intervals. A runner's policy was trained on from its robot's expert, for 20,000 updates:
where **called** says `best`, it does not reach the bar of an expert, or only stands, and scores are
of the table in **reference**. Levels that nobody has published policies of have no bar but moving,
so that an `expert` there is what this training reached, not what the body could do.
"""
COVERAGE = """\
## Where source and target have been

Two principal components of the observations: grey is a sample of the unshifted robot's data, colour
is the target set, both of the tier in the title, the best that both have. Each axis gives its share
of the variance.
"""


def main(families: Sequence[str]) -> None:
    """Write the pages of families; all by default, and the page of sources."""
    (HERE / PICTURES).mkdir(exist_ok=True)
    names = [dataset_name(text) for text in packaged_index()]
    for family, (title, means, belongs) in FAMILIES.items():
        if families and family not in families:
            continue
        inside = sorted((name for name in names if belongs(name)), key=_order)
        _write(family, target_page(family, title, means, inside))
    if not families or "sources" in families:
        _write("sources", source_page())
    if not families or "further" in families:
        _write("further", further_page())


def target_page(family: str, title: str, means: str, names: list[DatasetName]) -> str:
    """Lay out the page of a family of target sets, and draw its pictures."""
    lines = [f"# Target sets: {title.lower()}", ""]
    lines += [
        f"In these domains {means}. Each set holds 5,000 transitions and is in the package:",
        "",
    ]
    lines += ["```", f"shiftgym data get {names[0] if names else 'NAME'}", "```", ""]
    if not names:
        return "\n".join([*lines, "None is packaged yet: their policies are being trained.", ""])
    lines += [
        *markdown(HEADS, map(_row, names), "lrrrll"),
        "",
        "Where no policy reached the bar of an expert it is `best`: [policies](policies.md).",
        "",
        *compared([name.short for name in names]),
        "## Returns and rewards",
        "",
        HOW_TO_READ,
    ]
    by_domain: dict[str, dict[str, Flat]] = {}
    for name in names:
        by_domain.setdefault(name.domain.slug, {})[name.quality] = load_packaged(name)
    lines += _picture(f"{family}_returns", "returns and rewards", draw_returns(by_domain))
    pairs = [(slug, *found) for slug, sets in by_domain.items() if (found := _both(slug, sets))]
    if pairs:
        lines += [COVERAGE, *_picture(f"{family}_coverage", "coverage", draw_coverage(pairs))]
    return "\n".join(lines)


def source_page() -> str:
    """Lay out the page of the unshifted robots' sets, which users make."""
    lines = ["# Source sets", ""]
    lines += [
        "A million transitions per set, made on your machine from the packaged policies, the same",
        "bytes on every machine; any other size with `--size`. The histograms are of samples of",
        "5,000.",
        "",
    ]
    rows: list[tuple[str, str]] = []
    samples: dict[str, dict[str, Flat]] = {}
    for robot in robots():
        for tier in ("medium", "expert", "best"):
            policy = policy_of(domain(robot), tier)
            if policy:
                rows.append((f"`{policy}`", f"`shiftgym data make {robot}/{tier}`"))
                samples.setdefault(robot, {})[tier] = sampled(robot, policy)
    lines += [
        *markdown(("tier", "command"), rows, "ll"),
        "",
        "`medium-expert` is half and half. `medium-replay`, of 500,000 transitions, takes",
        "equal shares of random actions and of eight policies of one training, from random to",
        "medium. `random` needs no policy.",
        "",
    ]
    if samples:
        measured = [f"{robot}/{told}" for robot, found in samples.items() for told in found]
        lines += ["## What the samples measure", "", *styles(measured), "", HOW_TO_COMPARE]
        lines += ["## Returns and rewards", "", HOW_TO_READ]
        lines += _picture("sources_returns", "returns and rewards", draw_returns(samples))
    return "\n".join(lines)


def further_page() -> str:
    """Lay out the page of the domains whose sets are made on the user's machine."""
    packaged = {dataset_name(text).domain.slug for text in packaged_index()}
    known = json.loads((POLICIES / "evaluations.json").read_text())
    rows = []
    for slug, of in catalogue().items():
        if of.shift is None or slug in packaged:
            continue
        top = top_policy(of)
        table, medium = default_reference(slug), known.get(f"{slug}/medium")
        cells = [f"{known[f'{slug}/random']['random']['return']:,.0f}"]
        cells.append(earned(known[top]["stochastic"]))
        cells.append(earned(medium["stochastic"]) if medium else "")
        named = top.partition("/")[2]
        rows.append([f"`{slug}`", *cells, named, table or "none", f"`shiftgym data make {top}`"])
    heads = ("domain", "random", "best", "medium", "called", "reference", "made by")
    return "\n".join([FURTHER, *markdown(heads, rows, "lrrrlll"), ""])


@cache
def sampled(robot: str, policy: str) -> Flat:
    """Collect the sample of an unshifted robot that one of its policies makes."""
    return sample(robot, policy)


def _both(slug: str, sets: dict[str, Flat]) -> tuple[str, Flat, Flat] | None:
    """Give a target's best set, and a sample of its robot's data of the same tier."""
    robot = domain(domain(slug).robot)
    for tier in ("expert", "best", "medium"):
        policy = policy_of(robot, "medium") if tier == "medium" else top_policy(robot)
        if tier in sets and policy:
            return tier, sampled(domain(slug).robot, policy), sets[tier]
    return None


def draw_returns(sets: dict[str, dict[str, Flat]]) -> Any:
    """Draw a row per domain: returns of whole episodes on the left, rewards on the right."""
    figure, axes = plt.subplots(
        len(sets), 2, figsize=(9, 0.6 + 1.75 * len(sets)), squeeze=False, layout="constrained"
    )
    for (slug, qualities), (left, right) in zip(sets.items(), axes, strict=True):
        limit = episode_steps(domain(slug).robot)
        returns = {q: episode_returns(flat, limit) for q, flat in qualities.items()}
        marks = []
        if (table := default_reference(slug)) is not None:
            marks = [reference(slug, table).random, reference(slug, table).expert]
        everything = np.concatenate([*returns.values(), marks])
        low, high = everything.min(), everything.max()
        bins = np.linspace(low - 0.02 * (high - low), high + 0.02 * (high - low), 41)
        for quality, values in returns.items():
            colour = COLOURS.get(quality, "black")
            left.hist(values, bins, color=colour, alpha=0.65, label=quality)
            rewards = qualities[quality]["rewards"]
            edges = np.linspace(*np.percentile(rewards, [0.2, 99.8]), 61)
            right.hist(rewards, edges, density=True, histtype="stepfilled", color=colour, alpha=0.3)
            right.hist(rewards, edges, density=True, histtype="step", color=colour, label=quality)
        for mark in marks:
            left.axvline(mark, color="black", lw=0.9, ls=":")
        left.set_ylabel("episodes", fontsize=8)
        left.set_title(slug, fontsize=9, loc="left")
        left.yaxis.get_major_locator().set_params(integer=True)
        right.set_yticks([])
        right.legend(fontsize=7, frameon=False)
        for axis in (left, right):
            axis.tick_params(labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
    axes[-1][0].set_xlabel("return of an episode", fontsize=8)
    axes[-1][1].set_xlabel("reward of a step", fontsize=8)
    return figure


def draw_coverage(pairs: list[tuple[str, str, Flat, Flat]]) -> Any:
    """Draw a panel per domain: source and target observations on two principal components."""
    columns = min(4, len(pairs))
    rows = -(-len(pairs) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.9 * columns, 2.8 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(pairs) :]:
        axis.set_visible(False)
    for (slug, tier, source, target), axis in zip(pairs, axes.flat, strict=False):
        (before, after), shares = components(source["observations"], target["observations"])
        colour = COLOURS[tier]
        axis.scatter(*before.T, s=2, color=GREY, alpha=0.35, lw=0)
        axis.scatter(*after.T, s=2, color=colour, alpha=0.35, lw=0)
        axis.set_title(f"{slug}/{tier}", fontsize=9, loc="left")
        axis.set_xlabel(f"component 1 ({shares[0]:.0%})", fontsize=7)
        axis.set_ylabel(f"component 2 ({shares[1]:.0%})", fontsize=7)
        axis.set(xticks=[], yticks=[])
    return figure


def components(first: np.ndarray, second: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Project two sets of observations onto the two main components of both together.

    Every number is first divided by its spread, so that velocities do not outweigh angles; what
    goes beyond 5 spreads is pulled in.

    Returns:
        Both projections (n, 2), and each component's share of the variance (2,).
    """
    joined = np.concatenate((first, second)).astype(np.float64)
    joined = (joined - joined.mean(axis=0)) / np.maximum(joined.std(axis=0), 1e-6)
    joined = joined.clip(-5, 5)
    _, spreads, axes = np.linalg.svd(joined - joined.mean(axis=0), full_matrices=False)
    placed = joined @ axes[:2].T
    return [placed[: len(first)], placed[len(first) :]], (spreads**2 / (spreads**2).sum())[:2]


def _row(name: DatasetName) -> list[str]:
    entry = packaged_index()[name.short]
    told, mean = entry["about"], entry["return"]
    shown = "no whole episode" if mean is None else f"{mean:,.0f}"
    score, table = "", default_reference(name.domain)
    if mean is not None and table is not None:
        of = "" if table == MEASURED else f" ({table})"
        score = f"{reference(name.domain, table).score(mean):.1f}{of}"
    acted = " and ".join(f"`{policy}`" for policy in told["policies"])
    return [f"`{name}`", f"{entry['episodes']:,}", shown, score, acted, f"`{told['command']}`"]


def _order(name: DatasetName) -> tuple[int, str, int]:
    return (
        robots().index(name.domain.robot),
        str(name.domain.shift),
        list(COLOURS).index(name.quality),
    )


def _picture(name: str, words: str, figure: Any) -> list[str]:
    path = f"{PICTURES}/{name}.png"
    figure.savefig(HERE / path, dpi=110)
    plt.close(figure)
    return [f"![{words}]({path})", ""]


def _write(family: str, text: str) -> None:
    path = HERE / f"datasets_{family}.md"
    path.write_text(text)
    print(f"Wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
