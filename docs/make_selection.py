"""Write docs/selection.md from docs/data/selection.csv: python docs/make_selection.py.

data/selection.csv    a row per method, target, design and seed, from benchmarks/selection.py
data/selection.json   what all rows share, and how each method was measured on each robot
data/selection.txt    what it shows and what it does not, in words; without the file nothing is said
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftgym_agents.reports.selection import Row, mean_of, ordered_methods, read_rows, table

HERE = Path(__file__).parent
PAGE = """\
# Which source rows are true?

A method that filters, weighs or pays source rows makes a claim: that it knows which of them the
target would have produced. The simulator knows. Here half of the source rows obey the dynamics of
the target's own domain and half those of the unshifted robot; no method is told which, and each is
asked for a score per row. The **area under the ROC curve** is how often a true row scores above a
false one: 1 tells all of them, 0.5 none, less than 0.5 prefers the false ones. Target data are the
packaged 5,000 transitions. Two designs:

- **mixture**: as sources are found. Each half was collected in its own domain by that domain's own
  behaviour policy, so that states and actions differ as well, and may tell the rows apart alone.
- **twins**: the same states and the same actions, to the bit; only the simulator that answered
  differs. What looks at states and actions alone scores exactly 0.5. Where nothing is touched that
  the shift changes, both answers are equal and nobody can tell them apart: *attainable* says what
  is left.

`target-model` is a yardstick and no method: one MLP that learned the changes of state in the target
data, whose error at a source row is read against its own error on held-out target rows
(`shiftgym_agents/evaluation/yardstick.py`). The best method of a line is **bold**.

A row's score is no return. A false row may be worth keeping, and a true one may teach nothing; but
a method whose idea is to tell them apart should be able to.
{body}
## Measure a method

```
python benchmarks/selection.py --robots hopper --shifts kinematic
python benchmarks/selection.py --methods my_file.py:MyMethod otdf igdf
```

A method takes part by `source_scores`, one number per source row, higher for more like the target
(see `shiftgym_agents/core/agent.py`); [the example](agents.md#a-method-of-your-own) has it. It is
asked after pre-training, or, where it has no answer yet, after some training. From Python,
`shiftgym_agents.evaluation.selection` asks any method about any pair, and
`shiftgym_agents.evaluation.truth` makes pairs of known truth of any two domains of a robot.
"""
NOTHING = """
Nothing is recorded yet: `python benchmarks/selection.py --out docs/data/selection.csv` measures all
methods on all robots.

"""


def main(data: Path = HERE / "data" / "selection.csv", page: Path = HERE / "selection.md") -> None:
    """Write the page."""
    rows = read_rows(data)
    body = recorded(data, rows) if rows else NOTHING
    page.write_text(PAGE.format(body=body))
    print(f"Wrote {page}: {len(rows)} rows")


def recorded(data: Path, rows: Sequence[Row]) -> str:
    """Lay out what was measured."""
    about = json.loads(data.with_suffix(".json").read_text())
    parts = [""]
    for design, title in (("mixture", "A mixture"), ("twins", "Twins")):
        if any(row["design"] == design for row in rows):
            parts += [f"## {title}", "", *table(rows, design), ""]
    words = data.with_suffix(".txt")
    parts += [words.read_text().strip(), ""] if words.exists() else []
    parts += ["## At a glance", "", *summary(rows, about["measured"]), "", told(about), ""]
    parts += [f"Data: [{data.name}](data/{data.name}), [{data.stem}.json](data/{data.stem}.json)."]
    return "\n".join([*parts, "", ""])


def summary(rows: Sequence[Row], measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lay out a line per method: means over what was measured of it, and what it took."""
    designs = [d for d in ("mixture", "twins") if any(row["design"] == d for row in rows)]
    head = [f"{d}: {what}" for d in designs for what in ("area", "true rows in the best half")]
    lines = [f"| method | {' | '.join(head)} | cases | seconds per robot |"]
    lines.append(f"| --- |{' ---: |' * (len(head) + 2)}")
    for name in ordered_methods(rows):
        own = [row for row in rows if row["method"] == name]
        cells: list[str] = []
        for design in designs:
            here = [row for row in own if row["design"] == design]
            area, share = mean_of(here, "auc"), mean_of(here, "kept_true")
            cells += [
                "" if area is None else f"{area:.2f}",
                "" if share is None else f"{share:.0%}",
            ]
        seconds = [each["seconds"] for each in measured if each["method"] == name]
        cells += [str(len(own)), f"{sum(seconds) / max(1, len(seconds)):.0f}"]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def told(about: Mapping[str, Any]) -> str:
    """Say how it was measured."""
    shared, measured = about["settings"], about["measured"]
    machines = dict.fromkeys(f"{m['device']} ({m['threads']} threads)" for m in measured)
    dates = sorted({m["date"] for m in measured})
    seen = [m["versions"] for m in measured]
    versions = dict.fromkeys(
        f"shiftgym {v['shiftgym']}, mujoco {v['mujoco']}, torch {v['torch']} "
        f"(git {v['git'][:8]}{v['git'][40:]})"
        for v in seen
    )
    return (
        f"{shared['rows']:,} source rows of quality {shared['quality']}, preset "
        f"{shared['preset']}, at most {shared['most']:,} updates of each stage of pre-training "
        "(and as many of training, for methods that have no answer before); all cases of a robot "
        f"in lockstep. {dates[0]} to {dates[-1]}, {' and '.join(machines)}, load up to "
        f"{max(m['load'] for m in measured):.1f}; {'; '.join(versions)}."
    )


if __name__ == "__main__":
    main()
