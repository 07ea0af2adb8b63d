"""Which of a model's training pairs are trained on, `--select`: chosen once, the same for every loss and seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from harness.api import Candidate, HarnessError, Pair, Selector, StartLogps
from harness.data.tokens import TokenPair
from harness.models.load import load_model
from harness.planning.budget import Before
from harness.planning.events import Phase, Tell
from harness.run_folder.selection_facts import Kept, SelectionFacts
from harness.training.prepared import Prepared, cached_pass, pair_tokens
from harness.training.probe import probe

STREAM = 29
"""Sets the random numbers apart from others of the same seed."""


def with_selection(prepared: Prepared, tell: Tell) -> Prepared:
    """Return what the cells of a model share with the chosen training pairs only, and what choosing them cost."""
    selector = prepared.job.selector
    if selector is None:
        return prepared
    tell(Phase(text=f"choosing training pairs by {selector}"))
    pairs, before, logps = prepared.tokens.pairs, Before(), None
    if selector.needs_logps:
        logps, seconds = _start_logps(prepared)
        before = Before(flops=2.0 * prepared.start.parameters * sum(pair_tokens(prepared)), seconds=seconds)
        if prepared.job.probe is not None:
            probed = probe(prepared, prepared.job.probe, selector.probe_pairs)
            before = Before(flops=before.flops + probed.flops, seconds=before.seconds + probed.seconds)
            logps = replace(logps, probe=(probed.chosen, probed.rejected))
    began = time.perf_counter()
    rng = np.random.default_rng([prepared.job.run.data_seed, STREAM])
    chosen = checked(selector, selector.select(candidates(prepared.pairs, pairs), logps, rng), len(pairs))
    before = replace(before, seconds=before.seconds + time.perf_counter() - began)
    tokens = replace(
        prepared.tokens,
        pairs=tuple(pairs[i] for i in chosen),
        kept=tuple(prepared.tokens.kept[i] for i in chosen),
    )
    kept = tuple(prepared.pairs[i] for i in chosen)
    facts = SelectionFacts(
        setting=str(selector), before=described(prepared.pairs, pairs), after=described(kept, tokens.pairs)
    )
    return replace(prepared, pairs=kept, tokens=tokens, selection=facts, before=before)


def candidates(pairs: Sequence[Pair], tokens: Sequence[TokenPair]) -> tuple[Candidate, ...]:
    """Return the training pairs as selectors see them: without true quality."""
    return tuple(
        Candidate(
            pair_id=pair.pair_id,
            prompt_id=pair.prompt_id,
            context=pair.context,
            chosen=pair.chosen,
            rejected=pair.rejected,
            score_chosen=pair.score_chosen,
            score_rejected=pair.score_rejected,
            chosen_ids=ids.chosen_ids,
            rejected_ids=ids.rejected_ids,
        )
        for pair, ids in zip(pairs, tokens, strict=True)
    )


def checked(selector: Selector, chosen: np.ndarray, pairs: int) -> list[int]:
    """Return the chosen indices in the order of the data. Raises `HarnessError` where they are not such a choice."""
    found, count = np.asarray(chosen), selector.count(pairs)
    whole = found.ndim == 1 and (np.issubdtype(found.dtype, np.integer) or not len(found))
    if not whole or len(found) != count or len(set(found.tolist())) != count or not np.isin(found, range(pairs)).all():
        raise HarnessError(
            f"selector '{selector.name}' returned {_shown(found)}, expected the indices of {count} of {pairs} pairs, "
            "each once; correct the selector"
        )
    return sorted(int(index) for index in found)


def described(pairs: Sequence[Pair], tokens: Sequence[TokenPair]) -> Kept:
    """Return what boards say of a set of pairs."""
    gaps = np.array([pair.score_chosen - pair.score_rejected for pair in pairs])
    true = np.array([pair.true_chosen - pair.true_rejected for pair in pairs])
    known = {
        **({"score_gap": float(gaps.mean())} if len(gaps) and np.isfinite(gaps).all() else {}),
        **({"wrong_labels": float((true < 0).mean())} if len(true) and np.isfinite(true).all() else {}),
    }
    return Kept(
        pairs=len(pairs),
        chosen_tokens=float(np.mean([len(ids.chosen_ids) for ids in tokens])) if tokens else None,
        rejected_tokens=float(np.mean([len(ids.rejected_ids) for ids in tokens])) if tokens else None,
        **known,
    )


def _start_logps(prepared: Prepared) -> tuple[StartLogps, float]:
    """Return what the start checkpoint says of every training pair, and the seconds that it took once."""
    run = prepared.job.run
    dtype = "float32" if run.adapter == "full" else run.settings.dtype  # as it is loaded for training
    model = load_model(prepared.start.folder, dtype, trust_remote_code=run.trust_remote_code)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    groups = [(pair.prompt_ids, (pair.chosen_ids, pair.rejected_ids)) for pair in prepared.tokens.pairs]
    found = cached_pass(prepared, model, groups, np.arange(len(groups)))
    return StartLogps(chosen=found.sums[0], rejected=found.sums[1]), found.seconds


def _shown(found: np.ndarray) -> str:
    return f"{found.size} values of {found.dtype}" if found.size > 9 else str(found.tolist())
