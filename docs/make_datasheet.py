"""Write what a reader of a dataset asks for: python docs/make_datasheet.py.

docs/datasheet.md      motivation, composition, collection, processing, uses, distribution, upkeep
docs/croissant.json    the packaged sets as a Croissant record (mlcommons.org/croissant/1.0)
CITATION.cff           how to cite

Figures come from the package and from `python docs/make_measures.py`, which runs first; licence,
address and date from shiftgym/basics/project.py.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from measure_tables import experts_below, missed, ours, tiers

from shiftgym import __version__
from shiftgym.basics.pages import markdown
from shiftgym.basics.project import (
    AUTHORS,
    CODE_LICENCE,
    DATA_LICENCE,
    DATA_LICENCE_URL,
    RELEASED,
    REPOSITORY,
    TITLE,
    contact,
)
from shiftgym.datasets.names import dataset_name
from shiftgym.datasets.packaged import INDEX, PACKAGED, packaged_index
from shiftgym.policies import index
from shiftgym_agents.reports.leaderboard import sections
from shiftgym_agents.reports.report import interval, summary
from shiftgym_agents.reports.results import read_results
from shiftgym_tools.comparing.bands import DOMAINS, SHARES, TIMES

HERE = Path(__file__).parent
SHEET, RECORD, CITATION = (
    HERE / "datasheet.md",
    HERE / "croissant.json",
    HERE.parent / "CITATION.cff",
)
LEARNED = HERE / "data/published_learning.csv"  # collected from the grid `published`
LEARNERS, THEIRS = ("bc", "iql-target"), "-otdf"
FOLDER = "shiftgym/assets/datasets"
ABOUT = (
    "Target datasets for cross-domain (off-dynamics) offline reinforcement learning: 5,000 "
    "transitions each of simulated robots whose joints, links, friction or gravity were changed."
)
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
PAGE = """\
# Datasheet

Of the {sets} packaged sets, after Gebru et al. 2021 (arXiv:1803.09010). Figures are made by
`python docs/make_datasheet.py`. For programs: [croissant.json](croissant.json).

## Motivation

{about} They are the scarce half of a pair: an agent has plenty of data of the robot itself, a
million transitions that `shiftgym data make` makes, and these few of the changed one. Sets of this
kind accompany earlier work, in files without licence, recorded on a simulator that is no longer
maintained; these can be made anew, checked row by row, and shared. Made by {authors}.

## Composition

- **Instances**: transitions (state, action, reward, next state, whether the episode ended and
  how), {transitions:,} in {sets} sets of {domains} domains: {robots}.
- **Size**: {megabytes:.1f} MB, one HDF5 file per set. Layout: [datasets](datasets.md).
- **Qualities**: {qualities}. `medium-expert` is half and half.
- **Sample of what**: of the states that a behaviour policy visits; no larger set was drawn from.
- **Episodes**: 5,000 transitions are few episodes where nothing ends them early: {few} sets hold
  five or fewer whole ones, and their mean return varies accordingly.
- **Labels, splits**: none; rewards are the simulator's. Sets of different quality share no row.
- **People**: none. There are no personal data, and nothing offensive.

### What is weaker than in the published sets

The 36 sets that accompany OTDF (ICLR 2025) have namesakes here, in {judged} domains. Medians over
those domains, with the smallest and the largest in brackets; return as a share of the published
set's, points of 100 between OTDF's references, change and noise of actions as multiples
([what these are](datasets_kinematic.md)):

{tiers}

{weak}
Set by set: [kinematic](datasets_kinematic.md), [morphology](datasets_morph.md),
[gravity](datasets_gravity.md). What misses a bar is in
[missed_bars.json](data/missed_bars.json); what was tried is on the page of
[policies](policies.md).

### What learners make of them

Methods that never see a source, in the [laptop protocol](sweeps.md#a-protocol-that-fits-a-laptop),
on our set and on the published one of the same name; mean score (OTDF's references) of {seeds}
seeds with 95 % intervals, beside what the data themselves earn.

{learned}

What imitation makes of ours and of the published set is within two points on four of the five, and
seven apart on hopper-morph, where the published episodes earn seven more; target-only IQL does
better on our Ant and Walker2d. Observations are standardised, as the protocol says.
`shiftgym sweep published` trains this, after `shiftgym data import` of the
published files; [figures](data/published_learning.csv).

## Collection

Policies were trained with soft actor-critic (runners) or from published demonstrations' policies
(hands), chosen and measured as told under [policies](policies.md). Each set is one stream of
stochastic actions of one packaged policy, two halves of two for `medium-expert`, in MuJoCo with the
corrections told under [physics](physics.md). Every set names its policies with their SHA-256, the
seed of each episode and the versions that made it; runners' steps happen again from what is stored
(tests/shiftgym/datasets/test_packaged_datasets.py).

## Preprocessing

None. Values are stored as float32, observations once per episode and its end, compressed without
loss. No row joins two episodes.

## Uses

For offline and cross-domain reinforcement learning on few data, and for studying how methods fail
when dynamics differ. Not for claims about physical robots: these are simulations of simple models.
Scores here and scores on the published files of the same name are scores on different data; say
which was used. Results of this project: [results](results.md).

## Distribution

In the package `shiftgym`, {version}, and wherever `shiftgym data publish` sends them. Licence of
the data: [{licence}]({licence_url}), file `{folder}/LICENSE`, named in every set's metadata; of the
code: {code}. The robots' models are Gymnasium's and gymnasium-robotics'. Imported sets keep their
own terms.

## Maintenance

{contact} A set that changes keeps its name within a version of the package only: [the index]\
(croissant.json) has the SHA-256 of every file, and {title} refuses a file that differs. Changes
are listed in CHANGELOG.md.

## How to cite

```
{bibtex}
```

The same as [CITATION.cff](https://citation-file-format.github.io/) at the root of the project.
Where the shifts or the scores matter, cite their papers too: OTDF (Lyu et al., ICLR 2025) and ODRL
(Lyu et al., NeurIPS 2024).
"""


def main() -> None:
    """Write the three."""
    for path, text in ((SHEET, sheet()), (RECORD, record()), (CITATION, citation())):
        path.write_text(text)
        print(f"Wrote {path}")


def sheet() -> str:
    """Lay out the datasheet."""
    names = [dataset_name(text) for text in packaged_index()]
    robots = Counter(name.domain.robot for name in names)
    qualities = Counter(name.quality for name in names)
    whole = [ours()[name.short]["whole"] for name in names]
    where, (seeds, table) = contact(), learned()
    return PAGE.format(
        seeds=seeds, learned="\n".join(table),
        title=TITLE, about=ABOUT, authors=AUTHORS[0].lower() + AUTHORS[1:],
        sets=len(names), transitions=sum(name.size for name in names),
        domains=len({name.domain.slug for name in names}), robots=_counts(robots),
        megabytes=sum(_file(name.short).stat().st_size for name in names) / 1e6,
        qualities=_counts(qualities), few=sum(count <= 5 for count in whole),
        judged=len(DOMAINS), tiers="\n".join(tiers()), weak="\n".join(_weak()),
        version=f"version {__version__}", licence=DATA_LICENCE, licence_url=DATA_LICENCE_URL,
        folder=FOLDER, code=CODE_LICENCE, bibtex=bibtex(),
        contact=f"Questions and faults: <{where}>." if where else
        "The project has no public address yet; one will stand here and in every set's metadata.",
    )  # fmt: skip


def _weak() -> list[str]:
    """Say in sentences with figures where our sets fall short."""
    lines = []
    for share in SHARES:
        below = experts_below(share)
        named = f": {', '.join(f'`{slug}`' for slug in below)}" if below else ""
        lines.append(
            f"- {len(below)} of {len(DOMAINS)} expert sets earn less than {share:g} of the "
            f"published maximum{named}."
        )
    kinds = Counter(row["measure"] for row in missed())
    for measure, far in (("medium return", "more than 10 points from the published medium"),):
        lines.append(f"- {kinds[measure]} of {len(DOMAINS)} medium sets lie {far}.")
    for measure in ("noise", "change"):
        count = sum(kinds[f"{tier} {measure}"] for tier in ("medium", "expert"))
        lines.append(
            f"- The {measure} of actions is more than {TIMES:g} times the published set's in "
            f"{count} of {2 * len(DOMAINS)} sets."
        )
    best = [name.split("/")[0] for name in index() if name.endswith("/best")]
    stands = [slug for slug in best if f"{slug}/expert" in packaged_index()]
    if stands:
        named = ", ".join(f"`{slug}`" for slug in stands)
        lines.append(f"- The `expert` sets of {named} are of a policy below its bar.")
    return [*lines, ""]


def learned() -> tuple[int, list[str]]:
    """Count the seeds, and lay out what was learned from our sets and the published ones."""
    (section,) = sections(read_results(LEARNED))
    cells, rows = section.scores, []
    for _, target in section.pairs:
        if not target.endswith(THEIRS):
            pair = [("none", target), ("none", target + THEIRS)]
            means = [interval(summary([cells[m][p]])) for m in LEARNERS for p in pair]
            data = [f"{section.bars[name]['data']['score']:.1f}" for _, name in pair]
            rows.append((f"`{target}`", *data, *means))
    heads = [f"{what}, {whose}" for what in ("data", *LEARNERS) for whose in ("ours", "theirs")]
    seeds = len(next(iter(cells["bc"].values())))
    return seeds, markdown(("set", *heads), rows, "l" + "r" * len(heads))


def record() -> str:
    """Give the Croissant record of the packaged sets."""
    found: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"{TITLE}-targets",
        "description": f"{ABOUT} Each HDF5 file holds observations (N + E, O) with one more row "
        "per episode than it has steps, actions (N, A), rewards (N,), terminated (N,) and "
        "truncated (N,); shiftgym.load gives them as arrays with a row per transition.",
        "license": DATA_LICENCE_URL,
        "version": __version__,
        "creator": {"@type": "Organization", "name": AUTHORS},
        "keywords": ["offline reinforcement learning", "cross-domain", "MuJoCo", "Minari"],
        "citeAs": bibtex(),
        "isLiveDataset": False,
        "personalSensitiveInformation": "None: simulations of robots.",
        "dataCollection": "Rollouts of packaged policies, named with their SHA-256 in index.json.",
        "dataBiases": "Few episodes per set; behaviours weaker and noisier than those of published "
        "sets of the same name where docs/datasheet.md says so.",
    }
    if REPOSITORY:
        found["url"] = REPOSITORY
    if RELEASED:
        found["datePublished"] = RELEASED
    sets = packaged_index()
    found["distribution"] = [
        _object(INDEX, "application/json", "What every set is, and how it was made."),
        _object("LICENSE", "text/plain", "The licence of the data."),
        _object(
            "canonical.json", "application/json", "Checksums of the rows of sets made at home."
        ),
        *(
            _object(entry["file"], "application/x-hdf5", f"{name}: {_told(entry)}", name)
            for name, entry in sets.items()
        ),
    ]
    return json.dumps(found, indent=1) + "\n"


def _told(entry: dict[str, Any]) -> str:
    mean = entry["return"]
    earned = "no whole episode" if mean is None else f"mean return {mean:,.1f}"
    return f"{entry['size']:,} transitions, {entry['episodes']:,} episodes, {earned}"


def _object(file: str, kind: str, told: str, name: str | None = None) -> dict[str, Any]:
    content = (PACKAGED / file).read_bytes()
    return {
        "@type": "cr:FileObject",
        "@id": name or file,
        "name": name or file,
        "description": told,
        "contentUrl": f"{FOLDER}/{file}",
        "contentSize": f"{len(content)} B",
        "encodingFormat": kind,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _file(name: str) -> Path:
    return PACKAGED / packaged_index()[name]["file"]


def _counts(counted: Counter[str]) -> str:
    return ", ".join(f"{count} of {what}" for what, count in counted.items())


def bibtex() -> str:
    """Give the BibTeX entry."""
    rows = {"title": f"{{{TITLE}}}", "author": f"{{{AUTHORS}}}", "version": __version__}
    if RELEASED:
        rows["year"] = RELEASED[:4]
    if REPOSITORY:
        rows["url"] = REPOSITORY
    inside = ",\n".join(f"  {key} = {{{value}}}" for key, value in rows.items())
    return f"@software{{{TITLE},\n{inside}\n}}"


def citation() -> str:
    """Give the content of CITATION.cff (citation-file-format 1.2.0)."""
    rows = {
        "cff-version": "1.2.0",
        "message": '"If you use this software or its datasets, please cite it as below."',
        "type": "software",
        "title": f'"{TITLE}: environments, datasets and agents for cross-domain offline '
        'reinforcement learning"',
        "version": f'"{__version__}"',
        "license": CODE_LICENCE,
        "date-released": RELEASED,
        "repository-code": f'"{REPOSITORY}"' if REPOSITORY else "",
    }
    lines = [f"{key}: {value}" for key, value in rows.items() if value]
    return "\n".join([*lines, "authors:", f'  - name: "{AUTHORS}"', ""])


if __name__ == "__main__":
    main()
