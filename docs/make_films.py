"""Film each robot's best policies side by side: python docs/make_films.py."""

from __future__ import annotations

import json
from pathlib import Path

import shiftgym
from shiftgym.envs.tasks import TASKS
from shiftgym.opengl import prefer_headless
from shiftgym.pictures import Film
from shiftgym.policies import POLICIES, top_policy

HERE = Path(__file__).parent
LOCOMOTION = ("", "kinematic", "morph")
HANDS = ("", "kinematic-medium", "kinematic-hard", "morph-medium", "morph-hard")
CAST = dict.fromkeys(("hopper", "walker2d", "halfcheetah", "ant"), LOCOMOTION)
CAST |= dict.fromkeys(("pen", "door"), HANDS)
FRAMES, PIXELS = {LOCOMOTION: 60, HANDS: 40}, {LOCOMOTION: 180, HANDS: 130}
PAGE = """\
# At work

Each robot's best packaged policy in its unshifted domain and in the classic shifted ones, from
their first steps on: an `expert`, or a `best` where the bar of an expert was not reached
([behaviour policies](policies.md) has the bars). The returns are means of 100 deterministic
episodes. Filmed by `python docs/make_films.py`; one film:
`shiftgym render hopper-kinematic --policy top --out x.gif`.
"""


def main() -> None:
    """Write docs/films/*.gif and docs/films.md."""
    prefer_headless()
    (HERE / "films").mkdir(exist_ok=True)
    measured = json.loads((POLICIES / "evaluations.json").read_text())
    page = [PAGE]
    for robot, shifts in CAST.items():
        domains = [shiftgym.domain(f"{robot}-{shift}" if shift else robot) for shift in shifts]
        every = max(1, TASKS[robot].fps // 20)
        film = Film(
            "top", every * FRAMES[shifts], every, width=PIXELS[shifts], height=PIXELS[shifts]
        )
        film.write(HERE / "films" / f"{robot}.gif", domains)
        page += [f"## {robot}", "", f"![{robot}](films/{robot}.gif)", ""]
        for of in domains:
            name = top_policy(of)
            found = measured[name]["deterministic"]
            success = f", success {found['success']:.0%}" if "success" in found else ""
            page.append(f"- `{name}`: {found['return']:,.0f}{success}")
        page.append("")
    (HERE / "films.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
