"""Write docs/leaderboard.md, its table and its picture: python docs/make_results.py.

data/leaderboard.csv  .parquet  .json   what `shiftgym sweep leaderboard --collect` wrote
data/leaderboard.txt                    what it shows and what it does not, in words
data/earlier_data.txt                   what to know first of pages that were recorded before
leaderboard.md  leaderboard.html  results/leaderboard-<grid>.png  results/curves-<grid>.png

`shiftgym leaderboard` does the statistics, the table and its picture; what is added here is the
words around them, how the runs were trained, and learning curves. `board` shows another grid on a
page of its own (`make_vouch.py`, `make_tabb_open.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftgym_agents.reports.leaderboard import Section, join_variants, sections
from shiftgym_agents.reports.leaderboard_page import page
from shiftgym_agents.reports.leaderboard_pictures import draw
from shiftgym_agents.reports.report import draw_curves
from shiftgym_agents.reports.results import Results, read_results

HERE = Path(__file__).parent
INTRODUCTION = """\
# Leaderboard

What every method of the package earns on the package's own sets, all of it trained by one command,
`shiftgym sweep leaderboard`, in the [laptop protocol](sweeps.md#a-protocol-that-fits-a-laptop),
which is short. Scores go from 0, random actions, to 100, the expert, in the domain that the target
data are of. Intervals are 95 % bootstrap intervals that redraw seeds within every pair; IQM is the
mean of the middle half of all runs; P(> x) is the probability that a run beats one of method x on
the same pair (Agarwal et al. 2021, arXiv:2108.13264). `bc` and `iql-target` never see the source.

Two bars need no learning: the target data's own mean score over whole episodes, and the policy that
made them, **without its noise**, over 100 episodes. Data are made by policies that draw their
actions, agents act without drawing: to beat the data's mean can mean no more than that the noise is
gone. A score is **bold** where its whole interval is above the whole intervals of both.
"""
NOTHING = """
Nothing is recorded yet on the sets as they are now; [earlier results](results.md) are of the first
packaged sets. To make it: `shiftgym sweep leaderboard --dry` says how long it takes,
`shiftgym sweep leaderboard` trains it, `shiftgym sweep leaderboard --collect` writes the table, and
`shiftgym leaderboard runs/sweeps/leaderboard.csv --out leaderboard.png --page leaderboard.html`
ranks, draws and writes a page whose columns sort.
"""

BOARD = """
## {title}

![totals]({picture})

```{{raw}} html
:file: {name}.html
```

Data: [{name}.csv](data/{name}.csv), [{name}.json](data/{name}.json).
"""


def main(table: Path = HERE / "data" / "leaderboard.csv", out: Path = HERE) -> None:
    """Write the page."""
    if not table.exists():
        (out / "leaderboard.md").write_text(INTRODUCTION + NOTHING)
        print(f"Wrote {out / 'leaderboard.md'}: nothing is recorded yet")
        return
    results = read_results(table)
    found = sections(results)
    (out / "results").mkdir(exist_ok=True)
    (out / "leaderboard.html").write_text(page(found))
    parts = [INTRODUCTION, words(table.with_suffix(".txt"))]
    parts.append("```{raw} html\n:file: leaderboard.html\n```\n")
    for section in found:
        parts.append(pictures(results, section, out))
    files = (table.with_suffix(ending) for ending in (".csv", ".parquet", ".json"))
    listed = ", ".join(f"[{file.name}](data/{file.name})" for file in files if file.exists())
    parts += [f"## How\n\n{trained(results.about)}", f"\nData: {listed}.\n"]
    (out / "leaderboard.md").write_text("\n".join(part for part in parts if part))
    print(f"Wrote {out / 'leaderboard.md'}: {', '.join(section.name for section in found)}")


def board(table: Path, title: str, out: Path) -> str:
    """Write a grid's table and picture; give the lines that show them, if it was trained."""
    if not table.exists():
        return ""
    results = join_variants(read_results(table))
    found = sections(results)
    (out / f"{table.stem}.html").write_text(page(found))
    picture = f"results/leaderboard-{table.stem}.png"
    draw(found, out / picture)
    told = BOARD.format(title=title, picture=picture, name=table.stem)
    return told + "\n" + trained(results.about)


def pictures(results: Results, section: Section, out: Path) -> str:
    """Draw a section's totals and curves; give the lines that show them."""
    token = section.name.replace(", ", "-")
    draw([section], out / "results" / f"leaderboard-{token}.png")
    lines = [f"## {section.name}", "", f"![totals](results/leaderboard-{token}.png)", ""]
    for target in dict.fromkeys(target for _, target in section.pairs):
        own = [group for group in results.groups() if group.target == target]
        picture = f"curves-{token}-{target.replace('/', '-')}.png"
        draw_curves(own, out / "results" / picture)
        lines.append(f"[Learning curves on {target}](results/{picture})  ")
    return "\n".join([*lines, ""])


def trained(about: Mapping[str, Any]) -> str:
    """Say on what, with what and how long the runs were trained."""
    groups = about["groups"].values()
    machines = dict.fromkeys(_machine(group["machine"]) for group in groups)
    versions = dict.fromkeys(_version(group["versions"]) for group in groups)
    dates = sorted({group["machine"]["date"] for group in groups})
    hours = sum(group["seconds"] for group in groups) / 3600
    runs = sum(group["runs"] for group in groups)
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return (
        f"{runs:,} runs in {len(groups)} groups, {hours:,.1f} hours of training, "
        f"{when}, on {', '.join(machines)}; {'; '.join(versions)}.\n"
    )


def words(path: Path) -> str:
    """Give what is said of the table; nothing where nothing is."""
    return path.read_text() if path.exists() else ""


def notice() -> str:
    """Give what is to be known first of pages recorded on earlier data; nothing where noted so."""
    noted = words(HERE / "data" / "earlier_data.txt")
    return f"{noted}\n" if noted else ""


def _machine(facts: Mapping[str, Any]) -> str:
    if facts["kind"] != "cpu":
        return facts["device"]
    return f"{facts['device']} ({facts['threads']} threads a group)"


def _version(facts: Mapping[str, str]) -> str:
    git = facts["git"][:8] + facts["git"][40:]
    return f"shiftgym {facts['shiftgym']}, torch {facts['torch']}, git {git}"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
