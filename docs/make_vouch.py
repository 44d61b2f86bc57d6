"""Write docs/vouch.md, its tables and pictures: python docs/make_vouch.py.

data/vouch.csv        .json   what `shiftgym sweep vouch --collect` wrote
data/vouch-parts.csv  .json   what `shiftgym sweep vouch-parts --collect` wrote
data/vouch.txt                its verdict, and what the tables show and do not, in words
data/vouch_tried.txt   .csv   what was tried before, in words, and the scores of every run of it
data/vouch_tests.csv          what `python benchmarks/vouch.py` wrote
vouch.md  vouch.html  vouch-parts.html  results/leaderboard-vouch.png
"""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import mean

from make_results import board, words

from shiftgym.basics.pages import markdown

HERE = Path(__file__).parent
PAGE = """\
# A method of our own

`vouch` is for who has little data of a target and plenty of a source that may help or harm. Its
promise is modest: never worse than the better of imitation and IQL on the target alone, and better
where the source helps. What it learns from is in [the methods](agents.md#our-own), its numbers in
`shiftgym train --method vouch --help`, and all of it in one file,
`shiftgym_agents/methods/vouch.py`.
{verdict}{tests}{boards}
## What was tried

Short trainings in the [laptop protocol](sweeps.md#a-protocol-that-fits-a-laptop), three seeds each,
first on five pairs at a step size of 3e-4, then at 1e-3 mostly on pairs that no table here shows:
gravity and friction x 0.5 of the robots, medium and medium-expert. The method was frozen before it
was trained on the shifted pairs above; of their targets, hopper-morph, walker2d-kinematic and
ant-kinematic had been looked at for imitation and for sources of their own domain.
Scores of every run: [vouch_tried.csv](data/vouch_tried.csv).

{tried}
"""
TESTS = """
## Two tests of a source

It asks two things of a source before it learns. Here sources are of known kind: of the target's own
domain and policy ("own"), which ought to join, and of the unshifted robot. *Vouched* is the mean
weight of source rows in the critics: 0.95 is to be expected where dynamics are the same. *Ratio of
clones* is the held-out error of a clone that also learned from the source, over that of one of
target rows alone; where it is better by 4 *deviations* of the mean, the source may teach value and
policy (*join*, of seeds), by rows' weights.

{table}

Data: [{name}](data/{name}), by
`python benchmarks/vouch.py --out docs/data/{name}`.
"""
NOTHING = """
Its scores are not recorded yet: `shiftgym sweep vouch` and `shiftgym sweep vouch-parts` train them.
"""
TITLES = {"vouch": "Beside what it must beat", "vouch-parts": "What its parts are worth"}


def main(data: Path = HERE / "data", out: Path = HERE) -> None:
    """Write the page."""
    boards = [board(data / f"{name}.csv", title, out) for name, title in TITLES.items()]
    verdict = words(data / "vouch.txt")
    text = PAGE.format(
        verdict=f"\n{verdict.strip()}\n" if verdict else "",
        tried=words(data / "vouch_tried.txt").strip(),
        tests=two_tests(data / "vouch_tests.csv"),
        boards="".join(boards) or NOTHING,
    )
    (out / "vouch.md").write_text(text)
    print(f"Wrote {out / 'vouch.md'}")


def two_tests(path: Path) -> str:
    """Lay out what VOUCH's tests said of sources of known kind, a line per pair."""
    if not path.exists():
        return ""
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    rows = []
    for names in dict.fromkeys((each["source"], each["target"]) for each in found):
        own = [each for each in found if (each["source"], each["target"]) == names]
        vouched, ratio, better = (
            [float(each[name]) for each in own] for name in ("vouched", "ratio", "deviations")
        )
        joins = sum(each["joins"] == "1" for each in own)
        kind = "own" if names[0].partition("/")[0] == names[1].partition("/")[0] else ""
        numbers = (f"{mean(vouched):.2f}", f"{mean(ratio):.2f}")
        beyond = f"{min(better):.1f} to {max(better):.1f}"
        rows.append((*names, kind, *numbers, beyond, f"{joins} of {len(own)}"))
    head = ("source", "target", "", "vouched", "ratio of clones", "deviations", "join")
    return TESTS.format(table="\n".join(markdown(head, rows, "lllrrrr")), name=path.name)


if __name__ == "__main__":
    main()
