"""The harness's side of the benchmarks: a process that the driver talks to."""

from __future__ import annotations

import functools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import floor
import numpy as np
import torch
from protocol import digest, forget_peak, resident, serve

from harness.api import Loss, Message, Pair, ScoreRequest, ScorerOptions
from harness.data.collate import collate
from harness.data.tokens import Limits, tokenise
from harness.logps import packed_attention
from harness.logps.packed_attention import use_packed_attention
from harness.logps.response_logps import response_logps
from harness.manager import losses, plugin_manager
from harness.models.load import load_model, load_tokenizer, save_whole
from harness.planning.budget import Plan
from harness.training.loss_columns import prepare_columns
from harness.training.loss_inputs import TrainingData
from harness.training.recipe import Recipe
from harness.training.reference_cache import BLOCKS, Ragged, Reference, reference_pass
from harness.training.trainer import train

LIMITS = Limits(max_length=4096, max_prompt=2048)

state: dict[str, Any] = {}


def prepare(
    *,
    folder: str,
    dtype: str,
    batch_pairs: int,
    micro_pairs: int,
    learning_rate: float,
    n_pairs: int,
    flex: bool = False,
) -> dict[str, Any]:
    """Load the checkpoint and tokenise; the plan visits each of the first `n_pairs` pairs once.

    `flex`: FlexAttention runs on the packed rows.
    """
    packed_attention.FLEX_ON = frozenset({"cuda", "cpu"} if flex else ())
    model = load_model(Path(folder)).to("cuda" if torch.cuda.is_available() else "cpu")
    use_packed_attention(model)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    base = resident()["now"]
    began = time.perf_counter()
    pairs = [_pair(row) for row in json.loads((Path(folder) / "pairs.json").read_text())[:n_pairs]]
    tokens = tokenise(load_tokenizer(Path(folder)), pairs, LIMITS).pairs
    seconds = time.perf_counter() - began
    plan = Plan(batch_pairs=batch_pairs, n_pairs=n_pairs, seed=0, steps=n_pairs // batch_pairs)
    order = np.concatenate(list(plan.batches())).tolist()
    state.update(model=model, start=start, pairs=pairs, tokens=tokens, plan=plan, reference=None)
    state["recipe"] = Recipe(learning_rate=learning_rate, micro_pairs=micro_pairs, seed=0, dtype=dtype)
    both = [[*tokens[i].prompt_ids, *side] for i in order for side in (tokens[i].chosen_ids, tokens[i].rejected_ids)]
    return {
        "ids": digest(both),
        "order": order,
        "tokens": sum(len(row) for row in both),
        "lengths": _lengths(),
        "seconds": seconds,
        "base_bytes": base,
        "parameters": model.num_parameters(),
    }


def _lengths() -> list[tuple[int, int, int]]:
    """Return the tokens of (prompt, chosen, rejected) of each pair."""
    return [(len(pair.prompt_ids), len(pair.chosen_ids), len(pair.rejected_ids)) for pair in state["tokens"]]


def _pair(row: dict[str, Any]) -> Pair:
    fields = {name: row[name] for name in ("pair_id", "prompt_id", "chosen", "rejected")}
    scores = {name: row[name] for name in ("score_chosen", "score_rejected")}
    return Pair(context=tuple(Message(**turn) for turn in row["context"]), **fields, **scores)


@functools.cache
def _loss(name: str) -> Loss:
    # TRL averages CPO's NLL over the tokens of the batch
    known, options = losses(plugin_manager()), {"nll_reduction": "token"} if name == "cpo" else {}

    def resolve(name: str, options: Any) -> Loss:
        return known[name].from_options(options, resolve)

    return known[name].from_options(options, resolve)


def train_once(*, loss: str, share_reference: bool = False) -> dict[str, Any]:
    """Train from the start checkpoint over the prepared pairs, once; the reference pass is timed apart.

    `step_seconds` are those after the first step: neither side's set-up, which a long run does not feel.

    With `share_reference` only the first loss that needs one pays for it, as in a sweep.
    """
    model, plan, recipe, method = state["model"], state["plan"], state["recipe"], _loss(loss)
    model.load_state_dict(state["start"])
    forget_peak()
    reference, paid = state["reference"] if share_reference else None, 0.0
    if method.needs_reference and reference is None:
        reference = state["reference"] = _reference(model, recipe.dtype)
        paid = reference.seconds
    reference = reference if method.needs_reference else None
    ends: list[float] = []
    began = time.perf_counter()
    columns = prepare_columns(method, state["pairs"], state["tokens"], plan.visited(), reference)
    data = TrainingData(pairs=state["pairs"], tokens=state["tokens"], reference=reference, columns=columns)
    with tempfile.TemporaryDirectory() as scratch:
        trained = train(
            model, method, data, plan, recipe, Path(scratch), lambda step, loss: ends.append(time.perf_counter())
        )
    seconds = time.perf_counter() - began
    assert trained.status == "ok", trained.reason
    return {
        "seconds": seconds,
        "step_seconds": ends[-1] - ends[0],
        "reference_seconds": paid,
        "losses": trained.log["loss"].tolist(),
        "peak_bytes": trained.peak_memory_bytes if torch.cuda.is_available() else resident()["peak"],
    }


def _reference(model: Any, dtype: str) -> Reference:
    """Return the reference log-probs of every pair, computed now: a run's cache would give them for nothing."""
    tokens = state["tokens"]
    groups = [(pair.prompt_ids, (pair.chosen_ids, pair.rejected_ids)) for pair in tokens]
    device = next(model.parameters()).device

    def compute(indices: Any) -> list[Ragged]:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            logps = response_logps(model, collate([groups[i] for i in indices]).to(device))
        rows = [token[mask] for token, mask in zip(logps.token.cpu().numpy(), logps.mask.cpu().numpy(), strict=True)]
        return [rows[: len(indices)], rows[len(indices) :]]

    with tempfile.TemporaryDirectory() as folder:
        lengths = np.array([[len(response) for response in responses] for _, responses in groups]).T
        done = reference_pass(
            Path(folder),
            "reference",
            np.arange(len(groups)),
            compute,
            block_pairs=BLOCKS.get(device.type, 16),
            lengths=lengths,
        )
    return Reference(chosen=done.sums[0], rejected=done.sums[1], seconds=done.seconds, cached=False)


def save(*, folder: str) -> dict[str, Any]:
    """Write the trained weights as the pipeline leaves them for the scorer."""
    began = time.perf_counter()
    save_whole(state["model"], Path(folder))
    return {"seconds": time.perf_counter() - began}


# -- scoring -----------------------------------------------------------------------------------------------------------
def open_scorer(*, name: str, folder: str, dtype: str, max_length: int) -> dict[str, Any]:
    """Start a scorer with the checkpoint in `folder`."""
    began = time.perf_counter()
    sources = {source.name: source for each in plugin_manager().hooks.hook.harness_scorers() for source in each}
    state["scorer"] = sources[name].open(Path(folder), ScorerOptions(dtype=dtype, max_length=max_length))
    return {"seconds": time.perf_counter() - began}


def score(*, requests: list[tuple[list[int], list[int]]], folder: str | None = None) -> dict[str, Any]:
    """Return the summed log-prob of each response, with the weights in `folder` where it is given."""
    asked = [ScoreRequest(prompt=tuple(prompt), response=tuple(response)) for prompt, response in requests]
    began = time.perf_counter()
    if folder is not None:
        state["scorer"].load(Path(folder))
    sums = state["scorer"].score(asked)
    return {"seconds": time.perf_counter() - began, "sums": sums.tolist()}


def requests(*, folder: str, first: int, last: int) -> dict[str, Any]:
    """Return (prompt ids, response ids) of both responses of the pairs from `first` to before `last`."""
    rows = json.loads((Path(folder) / "pairs.json").read_text())[first:last]
    tokens = tokenise(load_tokenizer(Path(folder)), [_pair(row) for row in rows], LIMITS).pairs
    return {"requests": [(pair.prompt_ids, side) for pair in tokens for side in (pair.chosen_ids, pair.rejected_ids)]}


# -- the floor ---------------------------------------------------------------------------------------------------------
def floor_seconds() -> dict[str, Any]:
    """Return how long the prepared pairs would take at least; see `floor`."""
    shape = floor.Shape.of(state["model"].config)
    return floor.floor(shape, _lengths(), micro_pairs=state["recipe"].micro_pairs, dtype=state["recipe"].dtype)


if __name__ == "__main__":
    serve(
        {
            "prepare": prepare,
            "train": train_once,
            "save": save,
            "open": open_scorer,
            "score": score,
            "requests": requests,
            "floor": floor_seconds,
        }
    )
