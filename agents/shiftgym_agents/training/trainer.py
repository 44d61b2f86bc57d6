"""Train all runs of a method and keep a run directory that training can go on from after any kill.

    runs/x/
      config.json   method, configuration, pairs with dataset hashes, seeds, versions, git revision
      metrics.csv   losses and evaluations, one row per run and record; tensorboard/ has the same
      state.json  checkpoint-*.safetensors     the last checkpoint (see artifacts.py)
      result.json   final and last-five scores per run, written last
      .lock         there while a training owns the directory

The loop runs blocks of updates; blocks end at evaluations and at a stage's checks, so where they
end depends on the update count alone. Checkpoints are written between blocks and after waiting for
evaluations, hence a run killed at any moment and resumed equals one never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from shiftgym.basics.errors import ShiftgymError
from shiftgym.basics.ranges import Seed, require
from shiftgym_agents.core.agent import Agent, Config, Stage
from shiftgym_agents.data.pairs import TrainingPair
from shiftgym_agents.data.places import slug_of
from shiftgym_agents.methods.table import method, settings
from shiftgym_agents.training.artifacts import (
    owned,
    provenance,
    read_checkpoint,
    write_checkpoint,
    write_json,
)
from shiftgym_agents.training.diagnostics import diagnose
from shiftgym_agents.training.evaluator import Evaluator, Returns
from shiftgym_agents.training.hardware import settle
from shiftgym_agents.training.interrupt import StopRequest
from shiftgym_agents.training.metrics import LAST, Metrics, written
from shiftgym_agents.training.records import read_about
from shiftgym_agents.training.run_config import TrainOptions, describe_run, names_of, require_same
from shiftgym_agents.training.running import Running, next_after


class Trainer:
    """Own agent, evaluator and records of one run directory, from its checkpoint or afresh.

    Args:
        name: A method of `methods.METHODS`.
        config: Its configuration, or one per run where only numbers differ; or the name of a preset
            (ours, paper, official), with the values that it has for each pair's robot.
        pairs: One pair per run.
        seeds: One seed per run.
        options: Where and how.
        resume: Go on from the run directory's checkpoint.

    Raises:
        ShiftgymError: Wrong data, numbers, device or directory, or another training is at it; the
            message says what to change.
    """

    def __init__(
        self,
        name: str,
        config: Config | Sequence[Config] | str,
        pairs: Sequence[TrainingPair],
        seeds: Sequence[int],
        options: TrainOptions,
        resume: bool = False,
    ) -> None:
        self.options, self.out = options, options.out
        for seed in seeds:
            require("seed", seed, Seed)
        self.pairs, self.seeds = list(pairs), [int(seed) for seed in seeds]
        for pair in pairs:
            pair.score(0.0)  # a missing score reference is an error now, not after the training
        if isinstance(config, str):
            config = [settings(name, pair.domain, config) for pair in self.pairs]
        self.stop = StopRequest()
        self._open = ExitStack()  # what `close` gives back
        self._open.enter_context(owned(self.out))
        try:
            self._start(name, config, resume)
        except BaseException:
            self.close()
            raise

    def _start(self, name: str, config: Config | Sequence[Config], resume: bool) -> None:
        """Make the agent and go to where the run directory's checkpoint is."""
        options = self.options
        found = read_checkpoint(self.out) if resume else None
        if resume and found is None:
            raise ShiftgymError(f"{self.out} holds no checkpoint to resume: leave --resume out.")
        if not resume and (self.out / "config.json").exists():
            raise ShiftgymError(
                f"{self.out} holds a run: add --resume to go on with it, or choose another --out."
            )
        where = settle(options.device, options.backend, options.precision, options.threads)
        self.hardware = where.told
        self.backend: Literal["eager", "captured"] = where.backend
        self.trained_on: list[dict[str, Any]] = []  # devices in turn, each with its first update
        self.agent: Agent = method(name)(
            config, self.pairs, self.seeds, where.device, fast=where.fast
        )
        self.stages = self.agent.stages()
        self.at, self.step, self.seconds = 0, 0, 0.0
        self.diverged: dict[int, str] = {}
        self.since = 0  # updates since the last record
        about = describe_run(name, self.agent.configs, self.pairs, self.seeds, options)
        if found is not None:
            require_same(read_about(self.out), about, self.out)
            self._restore(*found)
        last = self.trained_on[-1] if self.trained_on else {}
        if {**last, **self.hardware} != last:
            self.trained_on.append({"from_update": self.count} | self.hardware)
        progress = None if found is None else self._progress()
        self.metrics = Metrics(self.out, progress, self.count)
        self._open.callback(self.metrics.close)
        places = [pair.domain for pair in self.pairs]
        self.evaluator: Evaluator | None = None
        if any(place is not None for place in places):
            self.evaluator = Evaluator(places, self.seeds, options.episodes, options.threads)
            self._open.callback(self.evaluator.close)
        self._waiting: list[tuple[list[dict[str, Any]], Future[Returns] | None, int]] = []
        self.scores = self._known_scores()
        if found is None:
            self.checkpoint()  # first, so that what has a config.json can be resumed
            told = provenance() | self.hardware
            write_json(self.out / "config.json", about | {"provenance": told})

    def close(self) -> None:
        """Give the directory, the records and the simulator back; `run` ends with this."""
        self._open.close()

    # --- the loop ---------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Count updates of all stages."""
        return sum(stage.steps for stage in self.stages[: self.at]) + self.step

    @property
    def total(self) -> int:
        """Count the updates of all stages when training is over."""
        return sum(stage.steps for stage in self.stages)

    def run(self) -> bool:
        """Train to the end and write the result; return False when interrupted before it.

        `stop` then says which signal it was.
        """
        look = {"unit": "upd", "smoothing": 0.1, "dynamic_ncols": True, "mininterval": 1.0}
        bar = tqdm(total=self.total, initial=self.count, disable=not self.options.progress, **look)
        started, saved = time.monotonic(), time.monotonic()
        before, stop = self.seconds, self.stop
        with self._open:
            with stop, bar:
                while not stop.requested:
                    stage = self.stages[self.at]
                    running = Running(self.agent, stage, self.backend)
                    while self.step < stage.steps and not stop.requested:
                        bar.update(self._block(running, stage))
                        self.seconds = before + time.monotonic() - started
                        self._show(bar, stage)
                        if time.monotonic() - saved > 60 * self.options.checkpoint_minutes:
                            self.checkpoint()
                            saved = time.monotonic()
                    if self.step < stage.steps or stage is self.stages[-1]:
                        break
                    self._finish(stage)
                    self.agent.logged.clear()
                    self.at, self.step = self.at + 1, 0
            self.checkpoint()
            over = self.count == self.total
            if over:
                write_json(self.out / "result.json", self.result())
        return over

    def _block(self, running: Running, stage: Stage) -> int:
        """Run updates up to the next record at most, and record what is due; return how many."""
        every = self.options.evaluate_every
        updates = running.block(self.step, next_after(self.step, every))
        self.step += updates
        self.since += updates
        self._note_divergence(stage)
        if self.step == stage.steps or self.step % every == 0:
            self._record(stage)
        self._flush()
        return updates

    def _finish(self, stage: Stage) -> None:
        if stage.finish is None:
            return
        before = dict(self.agent.told)
        stage.finish()
        news = {name: v for name, v in self.agent.told.items() if name not in before}
        if news and self.options.progress:
            said = (f"{name} {', '.join(f'{x:.2f}' for x in v)}" for name, v in news.items())
            tqdm.write(f"{stage.name}: {'; '.join(said)}")

    # --- records ----------------------------------------------------------------------------------

    def _record(self, stage: Stage) -> None:
        """Log mean losses since the last record, and start an evaluation where the stage asks."""
        means = {n: (s / self.since).cpu().numpy() for n, s in self.agent.logged.items()}
        rows: list[dict[str, Any]] = []
        for run, (pair, seed) in enumerate(zip(self.pairs, self.seeds, strict=True)):
            row: dict[str, Any] = {"stage": stage.name, "update": self.step, "run": run}
            row |= names_of(pair) | {"seed": seed}
            rows.append(row | {name: float(values[run]) for name, values in means.items()})
        for sums in self.agent.logged.values():
            sums.zero_()
        self.since = 0
        future = None
        if stage.evaluate and self.evaluator is None:
            rows = [row | told for row, told in zip(rows, diagnose(self.agent), strict=True)]
        elif stage.evaluate and self.evaluator is not None:
            index = -(-self.step // self.options.evaluate_every)
            future = self.evaluator.submit(self.agent.policy(), index)
        self._waiting.append((rows, future, self.count))

    def _flush(self, wait: bool = False) -> None:
        """Write the records whose evaluations are over, in order."""
        while self._waiting:
            rows, future, clock = self._waiting[0]
            if future is not None:
                if not wait and not future.done():
                    return
                found = future.result()
                for run, row in enumerate(rows):
                    value = float(found.returns[run].mean())
                    score = self.pairs[run].score(value)
                    row["return"] = written(value)
                    kept = float("nan") if score is None else written(score)
                    row["score"] = "" if score is None else kept
                    row["length"] = float(found.lengths[run].mean())
                    self.scores[run].append((row["return"], kept))
            self.metrics.add(rows, clock)
            self._waiting.pop(0)

    def _note_divergence(self, stage: Stage) -> None:
        for run in np.flatnonzero(~self.agent.finite()).tolist():
            if run in self.diverged:
                continue
            self.diverged[run] = f"{stage.name} update {self.step}"
            names = " -> ".join(map(str, self.pairs[run].names))
            tqdm.write(
                f"run {run} ({names}, seed {self.seeds[run]}) diverged by {self.diverged[run]}: "
                "its numbers are NaN from here; the others go on"
            )
        if len(self.diverged) == len(self.seeds):
            raise ShiftgymError(
                f"Every run diverged (NaN or infinite weights) by {stage.name} update {self.step}: "
                "start afresh with a smaller --learning-rate."
            )

    def _show(self, bar: tqdm, stage: Stage) -> None:
        last = [scores[-1] for scores in self.scores if scores]
        shown = f"{stage.name}"
        if last:
            scored = all(pair.reference is not None for pair in self.pairs)
            mean = np.nanmean([score if scored else value for value, score in last])
            shown += f" {'score' if scored else 'return'} {mean:.1f}"
        bar.set_postfix_str(shown, refresh=False)

    def result(self) -> dict[str, Any]:
        """Summarise a finished run for `result.json`."""
        runs: list[dict[str, Any]] = []
        for run, (pair, seed) in enumerate(zip(self.pairs, self.seeds, strict=True)):
            entry: dict[str, Any] = {"run": run, "seed": seed} | names_of(pair)
            entry |= {"domain": slug_of(pair.domain), "return": None, "return_last5": None}
            entry |= {"score": None, "score_last5": None}
            returns, scores = list(zip(*self.scores[run][-LAST:], strict=True)) or ([], [])
            if returns:
                entry |= {"return": _number(returns[-1])}
                entry |= {"return_last5": _number(float(np.mean(returns)))}
            if pair.reference is not None and scores:
                entry |= {"score": _number(scores[-1])}
                entry |= {"score_last5": _number(float(np.mean(scores)))}
            told = {name: _number(float(v[run])) for name, v in self.agent.told.items()}
            entry |= {"told": told} if told else {}
            runs.append(entry | {"diverged": self.diverged.get(run)})
        rate = self.total * len(self.seeds) / max(self.seconds, 1e-9)
        found = {"runs": runs, "seconds": self.seconds, "run_updates_per_second": rate}
        return found | {"trained_on": self.trained_on}

    def kept(self) -> list[str]:
        """Say, for each of several sources, what the last record tells of its rows, over runs."""
        if not self.agent.parts.several:
            return []
        last = self.metrics.rows[-len(self.seeds) :]
        lines: list[str] = []
        for name in self.agent.parts.titles:
            told = [
                f"{word} {np.mean([float(row[key]) for row in last]):.2f}"
                for word in ("kept", "weight")
                if last and (key := f"{word}[{name}]") in last[0]
            ]
            if told:
                lines.append(f"  source {name}: {', '.join(told)}")
        return lines

    # --- checkpoints ------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Write everything that resuming needs; the previous checkpoint lasts until it is whole."""
        self._flush(wait=True)
        state = {"count": self.count, "stage": self.at, "step": self.step, "since": self.since}
        state |= {"seconds": self.seconds, "logged": list(self.agent.logged)}
        state |= {"trained_on": self.trained_on}
        state |= {"diverged": {str(run): when for run, when in self.diverged.items()}}
        policy = self.agent.policy().arrays()
        write_checkpoint(self.out, self.agent.save() | policy, state)

    def _restore(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        self.agent.load(arrays)
        logged = self.agent.logged  # in the order of files; columns come in the order of logging
        names = dict.fromkeys((*state.get("logged", ()), *logged))
        self.agent.logged = {name: logged[name] for name in names if name in logged}
        self.at, self.step, self.since = state["stage"], state["step"], state["since"]
        self.seconds = state["seconds"]
        self.trained_on = list(state.get("trained_on", ()))
        self.diverged = {int(run): when for run, when in state["diverged"].items()}
        for stage in self.stages[: self.at]:
            self._finish(stage)

    def _known_scores(self) -> list[list[tuple[float, float]]]:
        """Read back what evaluations found before the checkpoint: (return, score or NaN) per run.

        Raises:
            ShiftgymError: `metrics.csv` lacks some of them, or has others.
        """
        scores: list[list[tuple[float, float]]] = [[] for _ in self.seeds]
        found: list[tuple[int, int]] = []
        for row in self.metrics.rows:
            if row.get("return"):
                run = int(row["run"])
                found.append((int(row["update"]), run))
                if run < len(scores):
                    score = float(row.get("score") or "nan")
                    scores[run].append((float(row["return"]), score))
        stage, every = self.stages[self.at], self.options.evaluate_every
        evaluated = stage.evaluate and self.evaluator is not None
        updates = list(range(every, self.step + 1, every)) if evaluated else []
        if evaluated and self.step == stage.steps and self.step % every:
            updates.append(self.step)
        if found != [(update, run) for update in updates for run in range(len(scores))]:
            raise ShiftgymError(
                f"{self.out / 'metrics.csv'} is not as the training left it: evaluations before "
                "the checkpoint are missing, or there are others. Put it back, or choose another "
                "--out."
            )
        return scores

    def _progress(self) -> dict[str, int]:
        """Give the updates done of each stage."""
        done = {stage.name: stage.steps for stage in self.stages[: self.at]}
        return done | {self.stages[self.at].name: self.step}


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
