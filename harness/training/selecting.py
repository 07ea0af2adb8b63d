"""Which of a model's training pairs are trained on, `--select`: chosen once, the same for every loss and seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from harness.api import Candidate, HarnessError, Pair, Selector, StartLogps
from harness.data.list_pairs import list_pairs
from harness.data.noise import with_noise
from harness.data.tokens import Limits, TokenPair, tokenise
from harness.models.load import load_model, load_tokenizer
from harness.planning.budget import Before
from harness.planning.events import Phase, Tell
from harness.run_folder.selection_facts import Kept, SelectionFacts
from harness.training.prepared import Prepared, cached_pass, pair_tokens, require_window
from harness.training.probe import probe

STREAM = 29
"""Sets the random numbers apart from others of the same seed."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a selector returned, checked."""

    indices: tuple[int, ...]
    """Of the candidates that are trained on, in their order."""
    often: tuple[float, ...] = ()
    """Their weights, of mean 1; empty where they have none."""


def with_selection(prepared: Prepared, tell: Tell) -> Prepared:
    """Return what the cells of a model share with the chosen training pairs only, and what choosing them cost."""
    selector = prepared.job.selector
    if selector is None:
        return prepared
    tell(Phase(text=f"choosing training pairs by {selector}"))
    offered = _paired_anew(prepared) if selector.needs_lists else prepared
    logps, before = _start_logps(offered) if selector.needs_logps else (None, Before())
    if logps is not None and prepared.job.probe is not None:
        probed = probe(offered, prepared.job.probe, selector.probe_pairs)
        before = Before(flops=before.flops + probed.flops, seconds=before.seconds + probed.seconds)
        logps = replace(logps, probe=(probed.chosen, probed.rejected))
    began = time.perf_counter()
    rng = np.random.default_rng([prepared.job.run.data_seed, STREAM])
    seen = candidates(offered.pairs, offered.tokens.pairs)
    choice = checked(selector, selector.select(seen, logps, rng), seen, selector.count(len(prepared.pairs)))
    before = replace(before, seconds=before.seconds + time.perf_counter() - began)
    tokens = replace(
        offered.tokens,
        pairs=tuple(offered.tokens.pairs[i] for i in choice.indices),
        kept=tuple(offered.tokens.kept[i] for i in choice.indices),
    )
    kept = tuple(offered.pairs[i] for i in choice.indices)
    facts = SelectionFacts(
        setting=str(selector),
        **({"candidates": len(seen)} if selector.needs_lists else {}),
        before=described(prepared.pairs, prepared.tokens.pairs),
        after=described(kept, tokens.pairs, choice.often),
    )
    found = replace(prepared, pairs=kept, tokens=tokens, selection=facts, before=before, often=choice.often)
    require_window(found)  # responses of the lists may be longer than those of the pairs
    return found


def _paired_anew(prepared: Prepared) -> Prepared:
    """Return what the cells of a model share with all pairs of the training lists in the place of the data's pairs."""
    job, run, settings = prepared.job, prepared.job.run, prepared.job.run.settings
    pairs = list_pairs(with_noise(job.dataset, run.noise, run.data_seed).data)
    tokens = tokenise(
        load_tokenizer(prepared.start.folder, run.trust_remote_code, job.chat_template),
        pairs,
        Limits(max_length=settings.max_length, max_prompt=settings.max_prompt),
        lenient=run.lenient,
        split="training lists",
    )
    tokens = replace(tokens, left_out={**prepared.tokens.left_out, **tokens.left_out})
    return replace(prepared, pairs=tuple(pairs[index] for index in tokens.kept), tokens=tokens)


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


def checked(selector: Selector, returned: np.ndarray, pairs: Sequence[Candidate], count: int) -> Choice:
    """Return what a selector chose, `count` pairs. Raises `HarnessError` where it is not such a choice."""
    found = np.asarray(returned)
    flat = found.ndim == 1
    if flat and np.issubdtype(found.dtype, np.floating) and not selector.needs_lists:
        fit = len(found) == len(pairs) and bool(np.isfinite(found).all()) and (found >= 0).all()
        if fit and np.count_nonzero(found) == count:
            kept = np.flatnonzero(found)
            weights = found[kept].astype(np.float64)
            often = weights / weights.mean()
            return Choice(indices=tuple(kept.tolist()), often=() if (often == 1).all() else tuple(often.tolist()))
        raise _wrong(selector, found, f"weights of all {len(pairs)} pairs, {count} of them above 0, the others 0")
    whole = flat and (np.issubdtype(found.dtype, np.integer) or not len(found))
    known = whole and np.isin(found, range(len(pairs))).all() and len(set(found.tolist())) == len(found)
    if selector.needs_lists:
        if not known or len({pairs[i].prompt_id for i in found.tolist()}) < len(found) or len(found) < count:
            raise _wrong(selector, found, f"indices of {count} or more of {len(pairs)} pairs, one per prompt")
        return Choice(indices=tuple(sorted(found[:count].tolist())))
    if not known or len(found) != count:
        raise _wrong(selector, found, f"the indices of {count} of {len(pairs)} pairs, each once")
    return Choice(indices=tuple(sorted(found.tolist())))


def _wrong(selector: Selector, found: np.ndarray, expected: str) -> HarnessError:
    got = f"{found.size} values of {found.dtype}" if found.size > 9 else str(found.tolist())
    return HarnessError(f"selector '{selector.name}' returned {got}, expected {expected}; correct the selector")


def described(pairs: Sequence[Pair], tokens: Sequence[TokenPair], often: Sequence[float] = ()) -> Kept:
    """Return what boards say of a set of pairs, by weight where there are weights."""
    weights = np.array(often) if often else np.ones(len(pairs))
    gaps = np.array([pair.score_chosen - pair.score_rejected for pair in pairs])
    true = np.array([pair.true_chosen - pair.true_rejected for pair in pairs])

    def mean(values: np.ndarray | list[int]) -> float | None:
        return float(np.average(values, weights=weights)) if len(weights) else None

    known = {
        **({"alike": float(weights.sum() ** 2 / (weights**2).sum())} if often else {}),
        **({"score_gap": mean(gaps)} if len(gaps) and np.isfinite(gaps).all() else {}),
        **({"wrong_labels": mean(true < 0)} if len(true) and np.isfinite(true).all() else {}),
    }
    return Kept(
        pairs=len(pairs),
        chosen_tokens=mean([len(ids.chosen_ids) for ids in tokens]),
        rejected_tokens=mean([len(ids.rejected_ids) for ids in tokens]),
        **known,
    )


def _start_logps(prepared: Prepared) -> tuple[StartLogps, Before]:
    """Return what the start checkpoint says of every candidate, and what that costs once: each response is read once.

    The responses of a pair are read together; of lists, in which a response is in several pairs, each alone.
    """
    run, pairs = prepared.job.run, prepared.tokens.pairs
    dtype = "float32" if run.lora is None else run.settings.dtype  # as it is loaded for training
    model = load_model(prepared.start.folder, dtype, trust_remote_code=run.trust_remote_code)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    if prepared.job.selector is not None and prepared.job.selector.needs_lists:
        places: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        chosen, rejected = (
            [places.setdefault((pair.prompt_ids, ids), len(places)) for pair, ids in zip(pairs, side, strict=True)]
            for side in ([pair.chosen_ids for pair in pairs], [pair.rejected_ids for pair in pairs])
        )
        groups = [(prompt, (response,)) for prompt, response in places]
        alone = cached_pass(prepared, model, groups, np.arange(len(groups)), name="-alone")
        logps = StartLogps(chosen=alone.sums[0][chosen], rejected=alone.sums[0][rejected])
        tokens, seconds = sum(len(prompt) + len(response) for prompt, response in places), alone.seconds
    else:
        both = cached_pass(
            prepared,
            model,
            [(pair.prompt_ids, (pair.chosen_ids, pair.rejected_ids)) for pair in pairs],
            np.arange(len(pairs)),
        )
        logps = StartLogps(chosen=both.sums[0], rejected=both.sums[1])
        tokens, seconds = sum(pair_tokens(prepared)), both.seconds
    return logps, Before(flops=2.0 * prepared.start.parameters * tokens, seconds=seconds)
