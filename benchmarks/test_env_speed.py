"""Time every contestant alone with pytest-benchmark; ratios of one run come from ``envs.py``.

    pytest benchmarks/test_env_speed.py --benchmark-columns=median,iqr,ops

One round of a benchmark is one call: a step of one robot, or of N robots at once. Episodes end and
restart as they would. Results are grouped by robot and number of sub-environments.
"""

import env_contestants as who
import numpy as np
import pytest

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SIZES = (1, 16, 64, 256)
CALLS = 200  # benchmarked calls per contestant
WARM = 20
ASYNC_SIZES = (1, 16)


def time_calls(benchmark, make, robot: str, count: int) -> None:
    """Benchmark single calls of a contestant, after a few to warm up."""
    try:
        contestant = make()
    except LookupError as error:
        pytest.skip(str(error))
    results = []
    try:
        actions = who.draw_actions(robot, np.random.default_rng(0), CALLS + WARM, count)
        contestant.run(actions[:WARM])
        items = iter(contestant.plan(actions[WARM:]))

        def setup():
            if results:
                contestant.after(results.pop())
            item = next(items)
            contestant.before(item)
            return (item,), {}

        def call(item):
            results.append(contestant.call(item))

        benchmark.pedantic(call, setup=setup, rounds=CALLS, iterations=1)
    finally:
        contestant.close()


@pytest.mark.parametrize("contestant", ["stock", "installed", "default"])
@pytest.mark.parametrize("robot", who.ROBOTS)
def test_single(benchmark, robot, contestant):
    benchmark.group = f"{robot} single"
    time_calls(benchmark, who.line_up_single(robot)[contestant], robot, 1)


@pytest.mark.parametrize(
    "contestant", ["bare", "vector", "sync", "stock sync", "async", "stock async", "envpool"]
)
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("robot", who.ROBOTS)
def test_vector(benchmark, robot, count, contestant):
    if contestant == "envpool" and not who.has_envpool():
        pytest.skip("EnvPool is not installed: pip install envpool")
    if "async" in contestant and count not in ASYNC_SIZES:
        pytest.skip(f"one process each: only {ASYNC_SIZES}")
    benchmark.group = f"{robot} x {count}"
    time_calls(benchmark, who.line_up_vector(robot, count)[contestant], robot, count)
