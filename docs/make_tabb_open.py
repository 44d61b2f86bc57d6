"""Write docs/tabb_open.md, its table and picture: python docs/make_tabb_open.py.

data/tabb-open.csv  .json   what `shiftgym sweep tabb-open --collect` wrote
data/tabb-open.txt          what it shows and what it does not, in words
tabb_open.md  tabb-open.html  results/leaderboard-tabb-open.png
"""

from __future__ import annotations

from pathlib import Path

from make_results import board, words

HERE = Path(__file__).parent
PAGE = """\
# TABB's open readings

[`tabb`](agents.md#what-is-rebuilt) is rebuilt from its paper's words, which leave four things open.
Here each is changed alone, on four of the leaderboard's pairs in the
[laptop protocol](sweeps.md#a-protocol-that-fits-a-laptop), so that a reader sees how much the
reconstruction matters. `no-source-rows` is no reading: TABB without any source row.

- **anchor** (`anchor-shared`, `anchor-polyak`): the mismatch is measured by the running value, or
  by its Polyak copy, in place of a value of its own that learned from target rows before;
- **latent_spread** (`spread-variance`, `spread-identity`): latents' errors weigh by their variance,
  or all alike, in place of one over their variance;
- **weight_scale** (`scale-median`, `scale-one`): the mismatch is divided by its median over the
  batch, or by nothing, in place of its mean;
- **source_targets** (`targets-realised`): source rows regress to what the source did, in place of
  what the target would answer.
{board}
{words}
Train it: `shiftgym sweep tabb-open`, then `shiftgym sweep tabb-open --collect`.
"""


def main(data: Path = HERE / "data", out: Path = HERE) -> None:
    """Write the page."""
    table = data / "tabb-open.csv"
    shown = board(table, "Scores", out) or "\nNothing is recorded yet.\n"
    text = PAGE.format(board=shown, words=words(table.with_suffix(".txt")))
    (out / "tabb_open.md").write_text(text)
    print(f"Wrote {out / 'tabb_open.md'}")


if __name__ == "__main__":
    main()
