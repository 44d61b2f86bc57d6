"""Draw every domain beside its source: python docs/make_gallery.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

import shiftgym
from shiftgym.describe import describe
from shiftgym.opengl import prefer_headless
from shiftgym.pictures import caption, portrait, side_by_side, view_of, write_image

HERE = Path(__file__).parent
SIZE = 260
TITLES = {
    "classic": "Classic shifts (OTDF, IGDF, DVDF, TABB)",
    "friction": "Friction",
    "gravity": "Gravity",
    "graded": "Graded shifts (ODRL)",
    "adroit": "Adroit hands (ODRL)",
}
VIEWS = {
    "rest": "at rest",
    "range": "the edited joints at both limits, overlaid",
    "motion": "the same start and the same actions, moments overlaid",
}
HERO = [[robot, f"{robot}-morph"] for robot in ("hopper", "walker2d", "halfcheetah", "ant")]


def main() -> None:
    """Write docs/gallery/*.webp, docs/gallery.md and docs/hero.png."""
    prefer_headless()
    (HERE / "gallery").mkdir(exist_ok=True)
    page = [
        "# Gallery",
        "",
        "Every domain (right) beside its unshifted robot (left). What is drawn depends on what is",
        "edited: another body at rest; another range of motion with the edited joints at both",
        "limits, overlaid; gravity and friction as moments of an episode under the same actions.",
        "Drawn by `python docs/make_gallery.py`; one picture: `shiftgym render <id> --compare`.",
        "[At work](films.md) shows trained policies in them.",
        "",
    ]
    shifted = [entry for entry in shiftgym.catalogue().values() if entry.shift]
    progress = tqdm(shifted, unit="picture")
    for family, title in TITLES.items():
        page += [f"## {title}", ""]
        for entry in (d for d in shifted if d.family == family):
            image = HERE / "gallery" / f"{entry.slug}.webp"
            write_image(image, side_by_side(entry, SIZE, SIZE))
            page += [f"### `{entry.env_id}`", "", f"![{entry.slug}](gallery/{image.name})", ""]
            page += [f"- `{line}`" for line in describe(entry)]
            page += [f"- view: {VIEWS[view_of(entry)]}", ""]
            progress.update()
    (HERE / "gallery.md").write_text("\n".join(page))
    columns = []
    for column in HERO:
        tiles = [portrait(shiftgym.domain(slug), "rest", SIZE, SIZE) for slug in column]
        labelled = [caption(tile, slug) for tile, slug in zip(tiles, column, strict=True)]
        columns.append(np.concatenate(labelled))
    write_image(HERE / "hero.png", np.concatenate(columns, axis=1))


if __name__ == "__main__":
    main()
