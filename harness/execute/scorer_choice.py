"""Which scorer a run takes, and the first moment at which a run starts anything: the imports of its workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from harness.api import HarnessError, ScorerSource
from harness.execute import workers
from harness.execute.resolve import Resolved
from harness.manager import scorers
from harness.run_folder.paths import MANIFEST

NO_PLUGIN = "its plugin is not there; see `harness doctor`, or install preference-harness again"


class ChosenScorer(NamedTuple):
    """A scorer, and why it."""

    source: ScorerSource
    note: str
    """Why this one, where it is not the product's first choice; empty otherwise."""


def start_and_choose_scorer(resolved: Resolved, *, dry: bool) -> ChosenScorer:
    """Let the workers' imports begin, which take a while, and return the scorer of the run, tried where need be.

    `dry`: the run is only planned. Nothing is started then, and a scorer whose first try takes seconds is not tried,
    unless the folder has results, which must be by the same scorer.
    """
    asked, new = resolved.run.scorer, not (resolved.folder / MANIFEST).exists()
    if new and not dry:
        workers.context(vllm=asked != "transformers")
    return choose_scorer(asked, scorers(resolved.manager), dry=dry and new)


def choose_scorer(name: str, known: Mapping[str, ScorerSource], *, dry: bool = False) -> ChosenScorer:
    """Return the scorer asked for. `dry`: one that has never been tried on this machine is not tried now.

    Raises `HarnessError` where there is none of this name, or it cannot run here.
    """

    def why_not(source: ScorerSource) -> str | None:
        if not source.untried():
            return source.why_not()
        return None if dry else workers.ask(source.why_not)

    if name == "auto":
        trouble = why_not(known["vllm"]) if "vllm" in known else NO_PLUGIN
        if trouble is None:
            return ChosenScorer(known["vllm"], "")
        other = why_not(known["transformers"]) if "transformers" in known else NO_PLUGIN
        if other is not None:
            raise HarnessError(f"no scorer can run here: vllm: {trouble}; transformers: {other}")
        return ChosenScorer(known["transformers"], f"scored by transformers, because vLLM cannot run here: {trouble}")
    if name not in known:
        raise HarnessError(f"--scorer got '{name}', expected auto or one of {', '.join(known)}")
    trouble = why_not(known[name])
    if trouble is not None:
        raise HarnessError(f"--scorer got '{name}', which cannot run here: {trouble}; install it or pass --scorer auto")
    return ChosenScorer(known[name], "scored by transformers, as asked for" if name == "transformers" else "")
