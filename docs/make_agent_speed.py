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
"""
GPU = """\
## On a GPU

No GPU was at hand, so nothing here is measured on one. What an update of the last stage launches is
counted, though, on the stand-in device (see [agents](agents.md#what-a-graph-freezes)), at the real
sizes of the preset `{preset}`:

`python -m shiftgym_agents.standin benchmarks/gpu_kernels.py --out docs/data/gpu_kernels.json`
([figures](data/gpu_kernels.json)).

*Plain* are torch operations and weights sliced out of their rows one by one; *fused* is what a
captured training does: rows are split once for each network and step, which gives the same bits
with one copy of the gradient in place of a zero-filled row for each weight; and Adam, its schedule
and the Polyak copies are two kernels of our own (`kernels/fused.py`), equal to the torch operations
but for rounding. The same text runs on the CPU in tests, and on a GPU each training compares its
first replay with the plain update before it goes on.

| method | kernels | MB per run | GFLOP | 1 run | 5 runs | 40 runs | 40 runs, TF32 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

Estimates are run-updates a second of an H100 (plain -> fused), from assumptions about it: 2 us for
a small kernel in a graph, products at 40 TFLOP/s (TF32: 200) and never below 6 us (4), memory at
2.6 TB/s, 5 TB/s where an operation moves less than 25 MB. Right within perhaps 40 %. On the CPU the
split neither costs nor saves: eagerly, 5 runs of `iql` took 0.99 times the processor time sliced,
of `td3bc` 1.03 times (medians of 6 turns in one process, each between 0.75 and 1.19).

`make gpu` does all that needs a GPU in about 25 minutes, in pieces that go on where they were:
compares every method and preset captured with eager, measures rates and memory at 1, 5 and 40 runs,
and trains TABB on the pairs of its table 1. `python benchmarks/gpu.py` measures alone, and says how
long 5 runs of a million updates take.
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
ESTIMATED = (("float32", "1"), ("float32", "5"), ("float32", "40"), ("tf32", "40"))
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


def on_a_gpu() -> str:
    """Write the section on GPUs from counted kernels."""
    found = json.loads((DATA / "gpu_kernels.json").read_text())
    at = {(row["method"], row["way"]): row for row in found["rows"]}
    rows: list[str] = []
    for name in dict.fromkeys(row["method"] for row in found["rows"]):
        one, two = at[name, "plain"], at[name, "fused"]
        cells = [f"{one['kernels']} -> {two['kernels']}"]
        cells.append(f"{one['mb_per_run']:.0f} -> {two['mb_per_run']:.0f}")
        cells.append(f"{two['gflop_per_run']:.2f}")
        for precision, runs in ESTIMATED:
            cells.append(f"{one[precision][runs]:,} -> {two[precision][runs]:,}")
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return GPU.format(preset=found["preset"], rows="\n".join(rows))


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
    page.append(on_a_gpu())
    (HERE / "agent_speed.md").write_text("\n".join(page))
    print(f"Wrote {HERE / 'agent_speed.md'}")


if __name__ == "__main__":
    main()
