"""Write docs/agent_speed.md from recorded figures: python docs/make_agent_speed.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shiftgym.basics.pages import markdown, name_versions

HERE = Path(__file__).parent
DATA = HERE / "data"
PARTS = {
    "__call__": "other networks",
    "update_value": "value",
    "update_critics": "critics",
    "update_actor": "actor",
}
PAGE = """\
# Speed of the agents

Run-updates per second: updates per second times the runs that train in lockstep. The last columns
compare with a plain one-run IQL in eager PyTorch, written as public implementations write it
(`benchmarks/plain_iql.py`), in the same minutes on the same cores: a ratio is the median over
{rounds} turns. Batches, widths and heads are those of the preset `ours`.

{device}, {threads} threads, load before {load}; {versions}.
`python benchmarks/agents.py --out docs/data/agent_benchmarks.json`
([figures](data/agent_benchmarks.json)). Peak memory of all of it: {memory:,.0f} MB.
"""
SHARES = """
## Where the time goes

Shares of an update of 5 runs, from Python's profiler; `choose`, `targets` and so on are the hooks
of the method. Evaluation runs beside training: {evaluation}.
"""
TRANSPORT = """
## Optimal transport

A block of {source:,} source rows against {target:,} target rows of {size} numbers, 100 Sinkhorn
iterations in POT: {lines} Deviations are computed once per pair and cached.
`python benchmarks/transport.py --out docs/data/transport_benchmarks.json`
([figures](data/transport_benchmarks.json)).

## On a GPU

`python benchmarks/gpu.py` measures rates at 1, 5 and 40 runs, compares captured with eager updates,
and says how long 5 runs of a million updates take. No GPU was at hand to record it.
"""
PROCESSOR = """
## Against the processor, and beside other work

{device}, {cores} cores, load before {load_before}, {runs} runs. *Products* is the share of the
processor's own rate of matrix products (through PyTorch, in turns with the training) that the
products of an update reach, all else included; *eager* the ratio to `--backend eager`. The last
three are shares of the rate alone that are left beside a process of lowest priority (nice 19),
beside one busy process per core (fair is 0.5) and beside a second training of the same kind. On a
processor with AVX-512, `x86-64-v3` stands for one without: kernels and PyTorch then leave AVX-512
alone. Measured at a priority above that of the other work of a shared machine: what runs beside
that work is never quite alone, which flatters the last three. `python benchmarks/cpu.py --out
docs/data/cpu_benchmarks.json` ([figures](data/cpu_benchmarks.json)).

{rows}

Between runs of the benchmark on that machine, products of `iql` moved between 0.62 and 0.71, and
its share beside busy processes between 0.45 and 0.63.

`--backend auto` races kernels and eager PyTorch once, for about a second, keeps the times beside
the compiled kernels and takes the faster path. While kernels train, PyTorch's own operations take
one thread: its OpenMP threads otherwise spin between operations on the cores that the kernels
need. The kernels' threads wait for a few microseconds, then sleep; they end when their number
changes. Neither their number nor the other runs change a byte of the result. Kernels lie in
`~/.cache/shiftgym/kernels` (`$XDG_CACHE_HOME/shiftgym/kernels`, or `$SHIFTGYM_CACHE/kernels`), a
folder that must be the user's own; where it cannot be written or nothing can be compiled,
training goes on eagerly and a warning says why."""
BESIDE = ("nice 19", "busy", "twin")
NAMES = {"captured": "kernels", "eager": "eager"}


def processor() -> str:
    """Write the section on CPU training from its own figures."""
    found = json.loads((DATA / "cpu_benchmarks.json").read_text())
    ratios = ("products", "eager", "lowest", "busy", "twin")
    rows = []
    for row in found["rows"]:
        each = [f"{row[name]:.2f}" if name in row else "" for name in ratios]
        rate = f"{row['run_updates_per_second']:,.0f}"
        rows.append([row["kind"], f"`{row['method']}`", NAMES[row["path"]], rate, *each])
    heads = ("kind", "method", "path", "run-updates/s", "products", "eager", *BESIDE)
    told = {name: found[name] for name in ("device", "cores", "runs", "load_before")}
    return PROCESSOR.format(rows="\n".join(markdown(heads, rows, "lllrrrrrr")), **told)


def main() -> None:
    """Write the page."""
    found = json.loads((DATA / "agent_benchmarks.json").read_text())
    rows: list[dict[str, Any]] = found["rows"]
    versions = name_versions(found["versions"], ("shiftgym", "torch", "numpy"))
    sizes = list(dict.fromkeys(row["runs"] for row in rows))
    at = {(row["method"], row["runs"]): row for row in rows}
    page = [
        PAGE.format(
            rounds=found["rounds"],
            device=found["device"],
            threads=found["threads"],
            load=found["load_before"],
            versions=versions,
            memory=found["peak_memory_mb"],
        ),
    ]
    heads = ["method", *(f"{n} run{'s' * (n > 1)}" for n in sizes), "5 runs / plain", "of IQL"]
    cells = []
    base = at["iql", 5]["ratio"]
    for name in dict.fromkeys(row["method"] for row in rows):
        rates = [f"{at[name, n]['run_updates_per_second']:,.0f}" for n in sizes]
        ratio = at[name, 5]["ratio"]
        cells.append([f"`{name}`", *rates, f"{ratio:.2f}", f"{ratio / base:.2f}"])
    page += markdown(heads, cells, "l" + "r" * (len(heads) - 1))
    evaluated = {
        row["runs"]: row["evaluation_steps_per_second"]
        for row in rows
        if "evaluation_steps_per_second" in row
    }
    counts = ", ".join(map(str, evaluated))
    speeds = ", ".join(f"{rate:,.0f}" for rate in evaluated.values())
    evaluations = f"{speeds} steps per second with {counts} runs"
    page.append(SHARES.format(evaluation=evaluations))
    cells = []
    for row in rows:
        if "shares" in row:
            named = {k: v for k, v in row["shares"].items() if k in PARTS or k.isalpha()}
            named["other"] += sum(row["shares"].values()) - sum(named.values())
            parts = [f"{PARTS.get(k, k)} {v:.0%}" for k, v in named.items()]
            cells.append([f"`{row['method']}`", ", ".join(parts)])
    page += markdown(("method", "parts"), cells, "ll")
    page.append(processor())
    transport = json.loads((DATA / "transport_benchmarks.json").read_text())
    lines = [
        f"{each['seconds']:.1f} s on {each['device']}, peak {each['peak_megabytes']:,.0f} MB."
        for each in transport["devices"]
    ]
    page.append(TRANSPORT.format(lines=" ".join(lines), **transport["rows"]))
    (HERE / "agent_speed.md").write_text("\n".join(page))
    print(f"Wrote {HERE / 'agent_speed.md'}")


if __name__ == "__main__":
    main()
