"""Write docs/policies.md from the packaged policies: python docs/make_policies.py [RUN ...].

Given run folders of `shiftgym policies train`, their learning curves are copied to
docs/data/policy_curves.csv first, and how each was trained to docs/data/policy_runs.json. A run
that was warm-started begins in the picture where the run it came from had arrived.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

from shiftgym.domains import catalogue, domain
from shiftgym.policies import POLICIES, index
from shiftgym.scores import reference
from shiftgym_tools.behaviour_config import BehaviourConfig
from shiftgym_tools.packaging import (
    PUBLISHED,
    SHARE_OF_PUBLISHED,
    SHIFTED_HAND_BAR,
    SOURCE_BARS,
    bar,
    metric,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = Path(__file__).parent
CURVES = HERE / "data" / "policy_curves.csv"
RUNS = HERE / "data" / "policy_runs.json"
COLUMNS = ("run", "domain", "updates", "step", "return_mean", "train_return", "seconds")
TOLD = ("updates", "seed", "multi_step", "steps_per_update", "reward_bonus", "control_refund")
INTRODUCTION = """\
# Behaviour policies

The policies that make the data. `shiftgym policies` lists them, `shiftgym policies measure NAME`
repeats a row, `shiftgym render DOMAIN --policy expert --out x.gif` shows one at work.

## How they are made

Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), one agent per domain, the domains of a
run in lockstep; 128-wide networks, batches of 128, four environment steps per update, 3-step
returns, in stages that start from each other (`--warm-start`):

1. the unshifted robot from scratch, step size 1e-3:
   `shiftgym policies train --robot hopper --domains hopper --multi-step 3
   --sac.learning-rate 1e-3 --evaluate-every 2000 --out runs/hopper`. The Ant first learned with
   `--reward-bonus -0.8 --control-refund 0.4`, without which it learns to stand still, and then with
   its true reward.
2. its shifts, all from the robot's own agent:
   `shiftgym policies train --robot hopper --domains hopper-kinematic hopper-morph ...
   --warm-start runs/hopper --out runs/hopper-shifts`.
3. where that did not suffice, more updates with a smaller step size (1e-4 to 6e-4), tens of
   thousands of steps of the old policy first (`--random-steps 40000`); a curriculum of domains in
   between (friction x2, x2.6, x3.4, x4.2 and then x5 for Walker2d's `friction-x5`; hip ranges of
   15, 7.5, 3 and 1.2 degrees before the Ant's `kinematic`, whose hips have 0.3); or another
   survival bonus for a while, less of it where the agent stood safely and slowly
   (`--reward-bonus -0.7`, Walker2d's `friction-x5`), more where it fell (`--reward-bonus 1`,
   Hopper's `friction-x0p1`).
   Returns are always those of the true reward.
4. HalfCheetah also from scratch for 28,000 updates in all domains, for its medium policies;
   Hopper's `friction-x5` for 2,400, for its own.

Four domains stay below their bar. Hopper's `friction-x2` and `-x5`: from scratch at two step sizes
for 96,000 updates, with a bonus, and by friction x1.15 to x1.75 in steps; from x1.5 on every policy
falls early. Walker2d's `kinematic`, whose feet hardly turn: from scratch, from the robot's own
policy with and without the bonus, and by foot ranges of 11, 4.5 and 1.8 degrees; it stands and
leans. The Ant's `friction-x5`: by friction x2.6, x3.4 and x4.2, where the return falls from 3,646
over 2,682 to 1,527.

[policy_runs.json](data/policy_runs.json) lists every run with its domains, start and settings. All
this took about three hours of two CPU cores that also did other work; a GPU was not at hand.

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

Then `shiftgym policies grade` chooses and measures, `shiftgym policies package` puts the chosen
into the package.

`expert` is the best policy where it reaches the bar; elsewhere it is called `best`. The bar is
{bars} for the unshifted robots; {share} of the published reference maximum for shifted locomotion,
and {hands:.0%} success for shifted hands.
`medium` is the snapshot nearest to a third of the way from random to the best (D4RL's rule); one
that only stands still for its survival bonus has to do where none that moves is near enough.

Every number is the mean of 100 fresh episodes (seeds 900,000 on, not used in the selection) with
the 95 % bootstrap interval. Each episode's return is in
`shiftgym/assets/policies/evaluations.json`.

## Table

| policy | updates | deterministic | stochastic | length | success | bar | published maximum |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def main(runs: list[Path]) -> None:
    """Copy the curves, draw them, and write the page."""
    if runs:
        rows = [
            row | {"run": run.name, "domain": row["domain"].rpartition(":")[2]}
            for run in runs
            for row in csv.DictReader((run / "curves.csv").open())
        ]
        with CURVES.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        RUNS.write_text(json.dumps({run.name: told(run) for run in runs}, indent=1) + "\n")
    draw(list(csv.DictReader(CURVES.open())))
    known = json.loads((POLICIES / "evaluations.json").read_text())
    (HERE / "policies.md").write_text(page(known))
    print(f"Wrote {HERE / 'policies.md'}")


def told(run: Path) -> dict[str, Any]:
    """Say how a run was trained: its settings and what it started from."""
    content = json.loads((run / "config.json").read_text())
    config = content["config"]
    parent = Path(config["warm_start"]).name if config["warm_start"] else None
    found = {"domains": [name.rpartition(":")[2] for name in content["domains"]]}
    found |= {"started_from": parent, "learning_rate": config["sac"]["learning_rate"]}
    return (
        found
        | {name: config.get(name, getattr(BehaviourConfig, name)) for name in TOLD}
        | content["provenance"]
    )


def draw(rows: list[dict[str, str]]) -> None:
    """Draw one panel per robot: deterministic returns against updates, a colour per domain."""
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
        shifts = {of.slug: of.shift for of in known.values() if of.robot == robot}
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


def page(known: dict[str, Any]) -> str:
    """Lay out the page."""
    bars = ", ".join(f"{_level(robot, value)} ({robot})" for robot, value in SOURCE_BARS.items())
    lines = [INTRODUCTION.format(bars=bars, share=SHARE_OF_PUBLISHED, hands=SHIFTED_HAND_BAR)]
    lines += [_row(name, known[name]) for name in index()]
    lines += ["", "## Learning curves", "", "![curves](policy_curves.png)", ""]
    lines += ["Raw values: [policy_curves.csv](data/policy_curves.csv).", ""]
    return "\n".join(lines)


def _level(slug: str, value: float) -> str:
    return f"{value:.0%} success" if metric(slug) == "success" else f"{value:,.0f}"


def _row(name: str, entry: dict[str, Any]) -> str:
    slug = name.split("/")[0]
    of = domain(slug)
    top = reference(of, PUBLISHED.get(of.shift, "odrl") if of.shift else "odrl").expert
    cells = [f"`{name}`", f"{entry['updates']:,}"]
    for mode in ("deterministic", "stochastic"):
        found = entry[mode]
        low, high = found["return_low"], found["return_high"]
        cells.append(f"{found['return']:,.0f} [{low:,.0f}, {high:,.0f}]")
    success = f"{entry['deterministic']['success']:.0%}" if metric(slug) == "success" else ""
    length = f"{entry['deterministic']['length']:.0f}"
    cells += [length, success, _level(slug, bar(slug)), f"{top:,.0f}"]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
