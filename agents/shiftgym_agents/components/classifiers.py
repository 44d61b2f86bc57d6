"""Estimate how much likelier a transition is under the target's dynamics than the source's.

Two networks tell target rows from source rows, one by (s, a, s'), one by (s, a). With logits f, the
log-odds that a row is of the target,

    ratio(s, a, s') = f(s, a, s') - f(s, a)  ->  log P_T(s'|s, a) - log P_S(s'|s, a)
    loss            = CE(f(s, a, s')) + CE(f(s, a)),  both domains weighing half

The second logit removes how differently (s, a) are distributed, and the prior. DARA (Liu et al.,
ICLR 2022, arXiv:2203.06662) after DARC (Eysenbach et al., ICLR 2021, arXiv:2006.13916).

`classifier_form` says what becomes of an output x, the difference of the published networks' two:

    logits          f = x
    double_softmax  ODRL: softmax, whose probabilities cross-entropy takes for logits, so that the
                    loss sees tanh(x/2), at most 1: its optimum is the true log-odds cut to
                    [-1, 1], and where those exceed 1 the loss drives x to infinity. f is x, which
                    stops at +-23, where 1e-10 is added to probabilities
    bounded         MOBODY's copy: the same loss, but f = tanh(x/2), which is consistent with it:
                    no ratio is beyond +-2
    residual        DARA's authors: f(s, a) = 4 tanh(x/4), f(s, a, s') = 4 tanh(x/4) + f(s, a), the
                    latter without gradient: no ratio is beyond +-4 (their networks, two bounded
                    outputs each, are replaced by one)

Stated: both classifiers and the ratio. Read in released code: two layers of 256, Adam 3e-4, 128 +
128 rows, 5,000 updates, and noise added to the inputs in training, N(0, 1) on raw inputs. Chosen:
inputs standardised by the moments of both datasets, each weighing half; no noise, which of the size
of the inputs' own spread hides every smaller shift (of two Gaussians 1.5 deviations apart, whose
deviation is a tenth of the states', the estimated ratio has a slope of 0.98 against the true one
without noise, 0.32 with noise of 0.1, 0.013 with 1); and, against learning rows by heart, a tenth
of both datasets held out, by which each classifier keeps its best weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from shiftgym.basics.ranges import Amount, Count, CountOrNone, HeldOut
from shiftgym_agents.components.holdout import HoldOut
from shiftgym_agents.core.agent import Agent, Noise, Stage
from shiftgym_agents.core.losses import weighted_mean
from shiftgym_agents.core.nets import minimise
from shiftgym_agents.data.batches import SIDES, Batch

HELD = 1000  # most rows held out of each dataset
BOUND = 4.0  # of the residual form's logits
GUARD = 1e-10  # added to probabilities of the double softmax


@dataclass(frozen=True)
class ClassifiersConfig:
    """Set the hyperparameters of the classifiers; a method's configuration extends it."""

    classifier_steps: CountOrNone = 5_000
    """Updates of the two domain classifiers before anything else, at most."""
    classifier_noise: Amount = 0.0
    """Standard deviation of the noise added to their inputs in training; published is 1."""
    classifier_hold_out: HeldOut = 0.1
    """Share of both datasets held out to keep each one's best weights by; 0 for the last ones."""
    classifier_every: Count = 100
    """Updates between looks at their error on held-out rows."""
    classifier_patience: CountOrNone = 10
    """Looks without improvement before one stops; 0 to go on to the end."""
    classifier_inputs: Literal["standard", "raw"] = "standard"
    """Standardise what they read, or not."""
    classifier_form: Literal["logits", "double_softmax", "bounded", "residual"] = "logits"
    """Outputs as logits; as softmaxed twice (ODRL); as bounded (MOBODY); as residual (DARA's)."""


class Classifiers:
    """Hold the two domain classifiers of every run.

    Args:
        agent: The runs; call this while it builds, after its own networks.
        config: How they are trained.
    """

    def __init__(self, agent: Agent[Any], config: ClassifiersConfig) -> None:
        self.agent, self.config = agent, config
        self.pair = agent.obs_size + agent.act_size
        self.whole = self.pair + agent.obs_size
        self.of_whole = agent.net("classifier_sas", (self.whole, *agent.hidden, 1))
        self.of_pair = agent.net("classifier_sa", (self.pair, *agent.hidden, 1))
        self.noise = agent.per_run("classifier_noise")
        self.shift, self.scale = self._moments()
        self.held: tuple[HoldOut, HoldOut] | None = None
        share, patience = config.classifier_hold_out, config.classifier_patience
        if share:
            whole, pair = (
                HoldOut(agent, net, share, patience, side="both", most=HELD)
                for net in (self.of_whole, self.of_pair)
            )
            self.held = whole, pair

    def stage(self) -> Stage:
        """Give the stage that trains them."""
        rows, steps = self.agent.config.batch, self.config.classifier_steps
        looks = {"every": self.config.classifier_every, "check": self.look} if self.held else {}
        normal, finish = self.noise_shapes(), self.freeze
        return Stage("classifiers", steps, self.step, rows, rows, normal, finish=finish, **looks)

    def noise_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name the standard normal numbers that `step` reads."""
        return {"classifier": (2 * self.agent.config.batch, self.whole + self.pair)}

    def step(self, batch: Batch, noise: Noise) -> None:
        """Take one gradient step of both classifiers for every run."""
        if self.held is not None and all(held.over for held in self.held):
            return
        x = self._inputs(batch)
        x = torch.addcmul(torch.cat([x, x[..., : self.pair]], 2), self.noise, noise["classifier"])
        whole, pair = self.logits(x[..., : self.whole], x[..., self.whole :])
        whole, pair = self._seen(whole, pair)
        losses = [domain_errors(logits, batch.sources) for logits in (whole, pair)]
        if self.held is None:
            parts = [weighted_mean(errors) for errors in losses]
        else:
            parts = [
                held.active * weighted_mean(errors, held.training_weights(batch))
                for held, errors in zip(self.held, losses, strict=True)
            ]
        loss = parts[0] + parts[1]
        minimise(loss, self.of_whole, self.of_pair)
        self.agent.log("classifier_loss", loss)

    @torch.no_grad()
    def look(self) -> None:
        """Judge each classifier by its cross-entropy on held-out rows of both datasets."""
        for k, held in enumerate(self.held or ()):
            rows = held.batch()
            x = self._inputs(rows)
            logits = self._seen(*self.logits(x, x[..., : self.pair]))[k]
            held.look(domain_errors(logits, rows.sources)[:, None])

    def log_ratio(self, batch: Batch) -> Tensor:
        """Estimate log P_T(s'|s, a) - log P_S(s'|s, a) of every row, `(R, B, 1)`."""
        x = self._inputs(batch)
        logits = self.logits(x, x[..., : self.pair])
        if self.config.classifier_form == "double_softmax":
            logits = [torch.log((f.sigmoid() + GUARD) / ((-f).sigmoid() + GUARD)) for f in logits]
        elif self.config.classifier_form == "bounded":
            logits = [torch.tanh(f / 2) for f in logits]
        return logits[0] - logits[1]

    def logits(self, whole: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Give f(s, a, s') and f(s, a), `(R, B, 1)` each, of inputs as the networks read them."""
        of_whole, of_pair = self.of_whole(whole), self.of_pair(pair)
        if self.config.classifier_form == "residual":
            of_whole, of_pair = (BOUND * torch.tanh(f / BOUND) for f in (of_whole, of_pair))
            of_whole = of_whole + of_pair.detach()
        return of_whole, of_pair

    def freeze(self) -> None:
        """Stop training them, at their best weights where rows are held out."""
        for held in self.held or ():
            held.restore()
        self.of_whole.freeze()
        self.of_pair.freeze()

    def _seen(self, whole: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Give the log-odds that the loss sees."""
        if self.config.classifier_form in ("double_softmax", "bounded"):
            return torch.tanh(whole / 2), torch.tanh(pair / 2)
        return whole, pair

    def _inputs(self, batch: Batch) -> Tensor:
        return (batch.rows[..., : self.whole] - self.shift) / self.scale

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Give mean and deviation of (s, a, s') over both datasets, `(R, 1, 2O + A)` each."""
        shape, device = (self.agent.runs, 1, self.whole), self.agent.device
        shift = torch.zeros(shape, dtype=torch.float64, device=device)
        scale = torch.ones(shape, dtype=torch.float64, device=device)
        if self.config.classifier_inputs == "standard":
            for run in range(self.agent.runs):
                rows = [self.agent.data.rows_of(side, run)[:, : self.whole] for side in SIDES]
                moments = [torch.var_mean(part.double(), 0, correction=0) for part in rows]
                shift[run] = (moments[0][1] + moments[1][1]) / 2
                within = sum(variance + mean**2 for variance, mean in moments) / 2
                scale[run] = (within - shift[run] ** 2).clamp(min=0).sqrt() + 1e-3
        return shift.to(self.agent.dtype), scale.to(self.agent.dtype)


def domain_errors(logits: Tensor, sources: int) -> Tensor:
    """Give each row's cross-entropy of telling domains apart, `(R, B, 1)`, source rows first.

    Rows weigh so that each domain's are half of the mean, whatever their number.
    """
    rows = logits.shape[1]
    wrong = softplus(logits[:, :sources]) * (rows / (2 * max(sources, 1)))
    right = softplus(-logits[:, sources:]) * (rows / (2 * max(rows - sources, 1)))
    return torch.cat([wrong, right], 1)
