"""One live engine for checkpoints that come one after another, with its canary."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.api import HarnessError, OpenScorer, ScorerOptions
from harness.data.heldout import HeldOut
from harness.planning.job import Job
from harness.run_folder.facts import ScorerFacts
from harness.score.canary import canary_parity
from harness.training.cell_record import scorer_facts


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The log-probs of every held-out response under one checkpoint, and how its scorer did."""

    sums: np.ndarray
    """(requests,) float64, nats."""
    scorer: ScorerFacts


@dataclass(kw_only=True)
class LiveEngine:
    """An engine and its canary: opened for the first checkpoint, and anew for one of another architecture."""

    job: Job
    engine: OpenScorer | None = None
    canary: OpenScorer | None = None
    lent: bool = False
    """The engine is another's, who closes it. A checkpoint that it does not take is then an error."""

    def score(self, folder: Path, held: HeldOut) -> Scored:
        """Return the log-probs under the checkpoint in `folder`."""
        job, began = self.job, time.perf_counter()
        engine = self._with_weights(folder, held)
        sums = engine.score(held.requests)
        parity = canary_parity(self.canary, held, sums, scorer=job.scorer.name, dtype=job.run.settings.dtype)
        took = {"parity_max_abs_nats": parity, "seconds": time.perf_counter() - began}
        return Scored(sums=sums, scorer=scorer_facts(job).model_copy(update=took))

    def _with_weights(self, folder: Path, held: HeldOut) -> OpenScorer:
        """Return the engine with the weights of `folder`."""
        if self.engine is not None:
            try:
                self.engine.load(folder)
                if self.canary:
                    self.canary.load(folder)
                return self.engine
            except HarnessError:  # another architecture
                if self.lent:
                    raise
                self.close()
        job = self.job
        options = ScorerOptions(
            dtype=job.run.settings.dtype,
            max_length=longest(held),
            seed=0,
            trust_remote_code=job.run.trust_remote_code,
        )
        # the canary first, as in a run: vLLM takes most of the accelerator's free memory
        self.canary = job.canary.open(folder, options) if job.canary else None
        self.engine = job.scorer.open(folder, options)
        return self.engine

    def takes(self, folder: Path) -> bool:
        """Return whether an engine that is lent takes the weights of `folder`, which it then has."""
        try:
            if self.engine is not None:
                self.engine.load(folder)
        except HarnessError:
            return False
        return self.engine is not None

    def close(self) -> None:
        """Free the memory, unless the engine is another's."""
        for opened in () if self.lent else (self.engine, self.canary):
            if opened is not None:
                opened.close()
        self.engine = self.canary = None


def longest(held: HeldOut) -> int:
    """Return the tokens of the longest prompt + response."""
    return max(len(request.prompt) + len(request.response) for request in held.requests)
