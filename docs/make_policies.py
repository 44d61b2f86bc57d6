"""Write docs/policies.md from the packaged policies: python docs/make_policies.py [RUN ...].

With --measure, packaged policies whose speed, change and noise were not measured yet are measured
anew first, into assets/policies/evaluations.json. What was tried where a bar is missed stands in
docs/data/policies_tried.toml.

Given run folders of `shiftgym policies train`, their learning curves are copied to
docs/data/policy_curves.csv first, and how each was trained to docs/data/policy_runs.json; what
stands there of their robots' earlier runs goes. A run
that was warm-started begins in the picture where the run it came from had arrived.
"""

from __future__ import annotations

import csv
import json
import math
import sys
import tomllib
from pathlib import Path
from typing import Any

import matplotlib
from measure_tables import earned, theirs
from tqdm import tqdm

from shiftgym.basics.pages import markdown
from shiftgym.domains import catalogue
from shiftgym.making import domain
from shiftgym.policies import POLICIES, index, load_policy, top_policy
from shiftgym.scores import published_maximum
from shiftgym_agents.training.artifacts import write_json
from shiftgym_tools.behaviours.config import BehaviourConfig
from shiftgym_tools.behaviours.finishing import NOISE
from shiftgym_tools.behaviours.grading import measure, measured_episodes
from shiftgym_tools.behaviours.packaging import (
    HAND_BARS,
    SHARE_OF_PUBLISHED,
    SHIFTED_HAND_BAR,
    bar,
    metric,
)
from shiftgym_tools.comparing.bands import SHARES, points_off
from shiftgym_tools.making.target_sets import LOCOMOTION_SHIFTS

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = Path(__file__).parent
CURVES = HERE / "data" / "policy_curves.csv"
RUNS = HERE / "data" / "policy_runs.json"
TRIED = HERE / "data" / "policies_tried.toml"
COLUMNS = ("run", "domain", "updates", "step", "return_mean", "train_return", "seconds")
TOLD = (
    "updates", "seed", "multi_step", "steps_per_update", "reward_bonus", "control_refund",
    "smoothing", "smooth", "demonstrations", "warm_domain",
)  # fmt: skip
INTRODUCTION = """\
# Behaviour policies

The policies that make the data. `shiftgym policies` lists them, `shiftgym policies measure NAME`
repeats a row, `shiftgym render DOMAIN --policy expert --out x.gif` shows one at work.

## How they are made

Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), one agent per domain, the domains of a
run in lockstep: 128-wide networks, batches of 128, two or four environment steps per update, step
size 1e-3; 3-step returns, but for HalfCheetah, which learns faster from single steps. In the last
third of a training step size and entropy fall in a line (`--sac.anneal`), to a tenth and to -2.5
per action. What else was needed:

- **smooth actions** (`--smoothing`, growing with `--smooth`): a Hopper paid by its reward alone
  bangs from bound to bound; a small price on changed actions halves that.
- **the robot first, its shifts from it** (`--warm-start`, `--warm-domain`), for shifts of Hopper
  and HalfCheetah that find no way by themselves, and for the graded levels and the further gravity
  levels, 20,000 updates each. Where such a training was never medium, the domain's medium is a
  half-trained policy of the robot's own, chosen by what it earns in the shift.
- **recordings** (`--demonstrations`): half of every batch comes from a recording of somebody who
  can do it, as in RLPD (Ball et al. 2023, arXiv:2302.02948). Walker2d's `kinematic`, whose right
  foot hardly turns, learns from OTDF's published expert transitions of that domain, and then earns
  more than they did; Walker2d and the Ant in other domains from an earlier expert of this package.

```
shiftgym policies train --robot walker2d --domains walker2d-kinematic --multi-step 3 \\
    --demonstrations walker2d_kinematic_expert.hdf5 --evaluate-every 2000 --updates 120000 \\
    --sac.anneal 70000 120000 --sac.final-entropy -2.5 --out runs/walker2d-kinematic
```

[policy_runs.json](data/policy_runs.json) lists every run with its domains, start and settings. Two
CPU cores that also did other work; a GPU was not at hand.

For the hands, PPO (Schulman et al. 2017, arXiv:1707.06347) that starts from the DAPG experts of
hand_dapg (Apache-2.0): `shiftgym policies train-hands --robot pen --expert pen.npz`. Three options
make shifted hands learn where that alone hardly moves:

- `--hindsight.steps 200` (pen): after every iteration the policy imitates its own last few hundred
  episodes, each for the targets that it served best. A pen that ends up somewhere else than it
  should is a demonstration for that other place.
- `--shaping 20 --episode-steps 100` (pen): the learner is also paid for turning the pen towards a
  target that is still far off, and sees more first moves and less holding still.
- `--ppo.anneal 2 18 --ppo.final-log-std -2.7`: experts end with little noise, so that they act in
  the data nearly as well as they do without any.

Then `shiftgym policies grade` chooses, finishes and measures, and `shiftgym policies package` puts
the chosen into the package. **Finishing** scales the noise of a trained policy so that it changes
the executed actions by at most {noise:g} (root mean square): learners explore as long as they
learn, and the field's recordings are close to deterministic. Ladders keep the noise of training.

`expert` is the best policy where it reaches {share:g} of the published return that counts as 100
there (the robot's where friction or gravity is shifted and no table has more), as it acts in data,
and does more than stand; elsewhere it is called `best`. Hands are judged by success: {bars}, and
{hands:.0%} under shifts. `medium` earns what the field's own medium set of that domain earns (the
12 of OTDF, D4RL's of three robots; `medium_goals.toml`), elsewhere half of the expert; one that
only stands still for its survival bonus has to do where none that moves is near enough, and a wide
spread of returns counts as far off as another mean, since sets are of a few episodes; the
ones of Hopper's `morph` and Walker2d's `kinematic` are those whose very set earns nearest.
A **ladder** is one training in order, from random to the medium.

Every number is the mean of 100 fresh episodes, 400 of the hands' best (seeds 900,000 on, not used
in the selection), with the 95 % bootstrap interval. Each episode's return is in
`shiftgym/assets/policies/evaluations.json`.

## How good they are

Data are made by the **stochastic** policy, so that it is what the bars are held against;
`shiftgym policies measure NAME --stochastic` repeats that half of a row, the same without
`--stochastic` the **deterministic** half. **Speed** is in m/s, **change** the root mean square of
what an action's numbers change from step to step, **noise** of what they differ by from the most
likely action's: all three of the stochastic policy{empty}.
"""
EXPERTS = """\
### Experts

**Share** is the stochastic return over the published reference maximum (D4RL's, OTDF's or ODRL's).
The bar of a runner's expert is {first:g} of it, and {second:g} is a second bar; a hand's bar is its
success rate.
"""
OTHERS = """\
### Mediums and ladders

**Of expert** is the stochastic return over that of the domain's best policy; **points** how far it
lies above the published medium set's mean return, of 100 between OTDF's references.
"""
STYLE = ("length", "success", "speed", "change", "noise", "repeat")
EXPERT_HEADS = ("published maximum", "share", "bar")
OTHER_HEADS = ("of expert", "points")
MISSES = """\
### What misses its bar, and what was tried
"""
MISSES_HEADS = ("domain", "share or success", "tried")


def main(runs: list[Path], again: bool) -> None:
    """Measure what lacks measures if asked to, copy the curves, draw them, and write the page."""
    if again:
        measure_anew()
    if runs:
        new = {run.name: told(run) for run in runs}
        robots = {robot_of(slug) for about in new.values() for slug in about["domains"]}
        known = json.loads(RUNS.read_text()) | new
        known = {
            name: about for name, about in known.items()
            if name in new or not robots & set(map(robot_of, about["domains"]))
        }  # fmt: skip
        kept = known.keys() - new.keys()
        rows = [row for row in csv.DictReader(CURVES.open()) if row["run"] in kept]
        rows += [
            row | {"run": run.name, "domain": row["domain"].rpartition(":")[2]}
            for run in runs
            for row in csv.DictReader((run / "curves.csv").open())
        ]
        with CURVES.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        RUNS.write_text(json.dumps(known, indent=1) + "\n")
    draw(list(csv.DictReader(CURVES.open())))
    known = json.loads((POLICIES / "evaluations.json").read_text())
    (HERE / "policies.md").write_text(page(known))
    print(f"Wrote {HERE / 'policies.md'}")


def robot_of(slug: str) -> str:
    """Name the robot of a domain, which may be a step of a curriculum and in no catalogue."""
    return slug.partition("-")[0]


def told(run: Path) -> dict[str, Any]:
    """Say how a run was trained: its settings and what it started from."""
    content = json.loads((run / "config.json").read_text())
    config = content["config"]
    parent = Path(config["warm_start"]).name if config["warm_start"] else None
    found = {"domains": [name.rpartition(":")[2] for name in content["domains"]]}
    found |= {"started_from": parent, "learning_rate": config["sac"]["learning_rate"]}
    found |= {"anneal": config["sac"].get("anneal")}
    found |= {name: config.get(name, getattr(BehaviourConfig, name)) for name in TOLD}
    if found["demonstrations"]:
        found["demonstrations"] = Path(found["demonstrations"]).name
    return found | content["provenance"]


def draw(rows: list[dict[str, str]]) -> None:
    """Draw one panel per robot: deterministic returns against updates, a colour per domain.

    The further levels stand in the file alone.
    """
    about = json.loads(RUNS.read_text())
    last = {name: 0 for name in about}
    for row in rows:
        last[row["run"]] = max(last[row["run"]], int(row["updates"]))

    def begin(run: str | None) -> int:
        """Count the updates before a run: those of the runs it started from."""
        parent = about[run]["started_from"] if run in about else None
        return begin(parent) + last[parent] if parent in about else 0

    known = catalogue()
    robots = list(dict.fromkeys(known[r["domain"]].robot for r in rows if r["domain"] in known))
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), squeeze=False)
    for robot, axis in zip(robots, axes.flat, strict=False):
        shifts = {
            of.slug: of.shift for of in known.values()
            if of.robot == robot and of.shift in (None, *LOCOMOTION_SHIFTS)
        }  # fmt: skip
        shown = [slug for slug in shifts if any(row["domain"] == slug for row in rows)]
        for colour, slug in enumerate(shown):
            label: str | None = shifts[slug] or "source"
            for run in about:
                own = [row for row in rows if row["domain"] == slug and row["run"] == run]
                if own:
                    x = [(begin(run) + int(row["updates"])) / 1000 for row in own]
                    y = [float(row["return_mean"]) for row in own]
                    axis.plot(x, y, label=label, lw=1, color=f"C{colour}")
                    label = None
        axis.set(title=robot, xlabel="thousand updates per agent", ylabel="return (3 episodes)")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(HERE / "policy_curves.png", dpi=110)


def measure_anew() -> None:
    """Measure the packaged policies whose style is not known, and keep each as it comes."""
    path = POLICIES / "evaluations.json"
    known = json.loads(path.read_text())
    for name in tqdm([name for name in index() if "noise" not in known[name]["stochastic"]]):
        slug = name.split("/")[0]
        known[name] |= measure(load_policy(name), slug, measured_episodes(slug))
        write_json(path, known)


def page(known: dict[str, Any]) -> str:
    """Lay out the page."""
    bars = ", ".join(f"{value:.0%} ({robot})" for robot, value in HAND_BARS.items())
    lacking = [name for name in index() if "noise" not in known[name]["stochastic"]]
    empty = f"; an empty place was not measured ({len(lacking):,} rows)" if lacking else ""
    lines = [
        INTRODUCTION.format(
            bars=bars, share=SHARE_OF_PUBLISHED, hands=SHIFTED_HAND_BAR, noise=NOISE, empty=empty
        ),
        EXPERTS.format(first=SHARES[0], second=SHARES[1]),
    ]
    top = {name: known[name] for name in index() if name.endswith(("/expert", "/best"))}
    lines += _table(EXPERT_HEADS, [_expert(name, entry) for name, entry in top.items()])
    others = [_other(name, known) for name in index() if name not in top]
    lines += ["", OTHERS, *_table(OTHER_HEADS, others)]
    lines += ["", MISSES, *markdown(MISSES_HEADS, _missed(top), "lrl")]
    lines += ["", "## Learning curves", "", "![curves](policy_curves.png)", ""]
    lines += ["Raw values: [policy_curves.csv](data/policy_curves.csv).", ""]
    return "\n".join(lines)


def _table(special: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    heads = ("policy", "updates", "stochastic", "deterministic", *special, *STYLE)
    align = "".join("l" if head in ("policy", "bar", "repeat") else "r" for head in heads)
    return markdown(heads, rows, align)


def reached(slug: str, entry: dict[str, Any]) -> tuple[str, float]:
    """Say which bar a best policy reaches, and what is held against it: share, or success."""
    mode, measure = metric(slug)
    value, top = entry[mode][measure], published_maximum(slug)
    if measure == "success":
        return ("reached" if value >= bar(slug) else "missed"), value
    if top is None:  # the bar is to move, which an `expert` does and a `best` does not
        moves = top_policy(domain(slug)).endswith("/expert")
        return ("reached" if moves else "missed"), float("nan")
    share = value / top
    return next((f"{least:g}" for least in SHARES if share >= least), "missed"), share


def _expert(name: str, entry: dict[str, Any]) -> list[str]:
    slug = name.split("/")[0]
    told, _ = reached(slug, entry)
    top = published_maximum(slug)
    if top is None:
        return _row(name, entry, ["", "", told])
    return _row(name, entry, [f"{top:,.0f}", f"{entry['stochastic']['return'] / top:.2f}", told])


def _other(name: str, known: dict[str, Any]) -> list[str]:
    slug = name.split("/")[0]
    mean, best = known[name]["stochastic"]["return"], known[top_policy(domain(slug))]
    points, published = "", theirs().get(name)
    if published is not None:
        points = f"{points_off(slug, mean, published.mean_return):+.1f}"
    return _row(name, known[name], [f"{mean / best['stochastic']['return']:.2f}", points])


def _row(name: str, entry: dict[str, Any], told: list[str]) -> list[str]:
    cells = [f"`{name}`", f"{entry['updates']:,}"]
    cells += [earned(entry[mode]) for mode in ("stochastic", "deterministic")]
    found = entry["stochastic"]
    cells += [*told, f"{found['length']:.0f}"]
    cells.append(f"{found['success']:.0%}" if "success" in found else "")
    cells += [f"{found[key]:.2f}" if key in found else "" for key in ("speed", "change", "noise")]
    return [*cells, f"`shiftgym policies measure {name}`"]


def _missed(top: dict[str, Any]) -> list[list[str]]:
    """Lay out what misses its first bar, with what was tried.

    Raises:
        SystemExit: something is told of a domain that misses nothing.
    """
    tried = tomllib.loads(TRIED.read_text())
    rows = {}
    for name, entry in top.items():
        slug = name.split("/")[0]
        told, value = reached(slug, entry)
        if told not in ("reached", f"{SHARES[0]:g}"):
            words = " ".join(tried.get(slug, "").split())
            rows[slug] = [f"`{slug}`", "stands" if math.isnan(value) else f"{value:.2f}", words]
    if strange := sorted(set(tried) - set(rows)):
        raise SystemExit(f"make_policies: {TRIED} tells of {strange}, which reach their bar.")
    return list(rows.values())


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main([Path(one) for one in arguments if one != "--measure"], "--measure" in arguments)
