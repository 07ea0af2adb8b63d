"""What the cells of a model share: the start checkpoint and its log-probs, the data as ids, what a visit costs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from harness.api import HarnessError, Loss, Pair, ScoreRequest
from harness.data.collate import Group, collate
from harness.data.heldout import HeldOut, held_out
from harness.data.mismatch import fingerprint, mismatched
from harness.data.noise import with_noise
from harness.data.template import template_day
from harness.data.tokens import Limits, TokenisedPairs, tokenise
from harness.logps import cpu_matmul
from harness.logps.response_logps import plain_logps, response_entropies, response_logps
from harness.models.load import load_tokenizer, start_checkpoint
from harness.models.start import StartCheckpoint, StartRequest
from harness.models.window import window_of
from harness.planning.budget import NOTHING_BEFORE, Before, Budget, Cost, Plan, loss_flops, plan, uses_reference
from harness.planning.events import Phase, Tell
from harness.planning.grid import Cell
from harness.planning.job import Job
from harness.planning.run_file import PROTOCOL
from harness.run_folder.facts import NoiseFacts
from harness.run_folder.one_at_a_time import one_at_a_time
from harness.run_folder.selection_facts import SelectionFacts
from harness.run_folder.store import records_by_now
from harness.training.reference_cache import BLOCKS, Pass, Ragged, Reference, reference_pass


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the cells of a model share."""

    job: Job
    start: StartCheckpoint
    pairs: tuple[Pair, ...]
    tokens: TokenisedPairs
    held_out: HeldOut
    dev: HeldOut | None = None
    """The development split, where a run chooses among points on it."""
    start_seconds: float = 0.0
    """Time to make or find the start checkpoint."""
    token_seconds: float = 0.0
    """Time to turn all text into ids."""
    template_day: str = ""
    """The day that the chat template prints as today, as 2024-07-26; empty where it prints none."""
    noise: NoiseFacts | None = None
    """What noise changed in the labels; None where there is none."""
    selection: SelectionFacts | None = None
    """What choosing among the training pairs did; None where all are kept."""
    before: Before = NOTHING_BEFORE
    """What choosing cost, charged to every cell."""
    often: tuple[float, ...] = ()
    """How often each training pair is visited in an epoch, on average; empty where each is once."""

    @property
    def tokens_fingerprint(self) -> str:
        """Hash of the training pairs, with their weights if they have any, and of the held-out responses, as ids."""
        trained = self.tokens.fingerprint
        if self.often:
            trained = hashlib.sha256(f"{trained}{self.often}".encode()).hexdigest()[: len(trained)]
        return f"{trained}-{self.held_out.fingerprint}"

    @property
    def template_facts(self) -> dict[str, int | str]:
        """What records say of the data under this chat template, where there is something to say."""
        facts: dict[str, int | str] = {
            "seams_moved": self.tokens.seams_moved,
            "seams_moved_test": self.held_out.seams_moved,
            "template_day": self.template_day,
        }
        return {name: value for name, value in facts.items() if value}

    @cached_property
    def mismatched(self) -> tuple[tuple[int, ...], ...]:
        """A mismatched response of each training pair, as ids; drawn when the first loss needs it, the same for all."""
        run = self.job.run
        most = min(run.settings.max_length, window_of(self.start.folder) or run.settings.max_length)
        return mismatched(self.tokens.pairs, [pair.prompt_id for pair in self.pairs], most, run.data_seed)


def prepare(job: Job, tell: Tell) -> Prepared:
    """Return the start checkpoint and the data as ids."""
    run, settings, began = job.run, job.run.settings, time.perf_counter()
    limits = Limits(max_length=settings.max_length, max_prompt=settings.max_prompt)
    start = start_checkpoint(
        StartRequest(
            model=job.source or job.model,
            preset=settings.name,
            dataset=job.dataset,
            limits=limits,
            cache=job.cache,
            start=run.start,
            trust_remote_code=run.trust_remote_code,
            chat_template=job.chat_template,
            nf4=settings.dtype if run.lora and run.lora.quantised else "",
            progress=lambda text: tell(Phase(text=text)),
        )
    )
    require_same_start(job, start)
    made = time.perf_counter()
    tokenizer = load_tokenizer(start.folder, run.trust_remote_code, job.chat_template)
    noisy = with_noise(job.dataset, run.noise, run.data_seed)
    labelled = noisy.data  # the start is made from the data without noise: it is the same on every board
    tokens = tokenise(tokenizer, labelled.train, limits, lenient=run.lenient)
    held = held_out(tokenizer, labelled, run.evaluate_on, limits, lenient=run.lenient)
    chosen_on = run.report == "best-on-dev"
    dev = held_out(tokenizer, labelled, "dev", limits, lenient=run.lenient) if chosen_on else None
    for line in _what_became_of_rows(tokens, held, run.evaluate_on, limits):
        tell(Phase(text=line))
    prepared = Prepared(
        job=job,
        start=start,
        pairs=tuple(labelled.train[index] for index in tokens.kept),
        tokens=tokens,
        held_out=held,
        dev=dev,
        start_seconds=made - began,
        token_seconds=time.perf_counter() - made,
        template_day=template_day(tokenizer),
        noise=noisy.facts,
    )
    require_window(prepared)
    return prepared


def _what_became_of_rows(tokens: TokenisedPairs, held: HeldOut, split: str, limits: Limits) -> Iterator[str]:
    """Yield what a user must know of pairs that are left out, cut, or begin their response earlier than is usual."""
    for reason, count in [*tokens.left_out.items(), *held.left_out.items()]:
        yield f"left out {count}, {reason}"
    main = int((held.pairs["split"] == split).sum())
    parts = ((len(tokens.pairs), "train"), (main, split))
    for (pairs, name), cut in zip(parts, (tokens.truncated, held.truncated_pairs), strict=True):
        if cut:
            yield (
                f"{cut} of {pairs} {name} pairs are cut: --max-length {limits.max_length}, of it --max-prompt "
                f"{limits.max_prompt}, in tokens"
            )
    for (pairs, name), moved in zip(parts, (tokens.seams_moved, held.seams_moved), strict=True):
        if moved:
            yield (
                f"{moved} of {pairs} {name} pairs: the chat template has other tokens at the end of the prompt once a "
                "response follows; they count as part of both responses"
            )


def scored_requests(prepared: Prepared) -> tuple[ScoreRequest, ...]:
    """Return every held-out response that is scored, on either split."""
    return (*prepared.held_out.requests, *(prepared.dev.requests if prepared.dev else ()))


def require_same_start(job: Job, start: StartCheckpoint) -> None:
    """Raise `HarnessError` where the folder holds results of this model from another start checkpoint."""
    for record in records_by_now(job.folder):
        before = record.model.fingerprint
        if record.model.name == job.model and record.kind == "loss" and before not in (None, start.fingerprint):
            raise HarnessError(
                f"{record.folder} was trained from another start checkpoint ({before}, now {start.fingerprint}: the "
                "checkpoint or a library has changed); name another --output-dir"
            )


def pair_tokens(prepared: Prepared) -> list[int]:
    """Return the tokens of each training pair: prompt + chosen and prompt + rejected."""
    return [2 * len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids) for pair in prepared.tokens.pairs]


def require_window(prepared: Prepared) -> None:
    """Raise `HarnessError` where a sequence is longer than the context window that the model's config states."""
    job, window = prepared.job, window_of(prepared.start.folder)
    lengths = [len(request.prompt) + len(request.response) for request in scored_requests(prepared)]
    for pair in prepared.tokens.pairs:
        lengths.append(len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)))
    if window is not None and max(lengths) > window:
        longer = sum(length > window for length in lengths)
        raise HarnessError(
            f"{job.model} takes at most {window} tokens, its context window, and {longer} of {len(lengths)} sequences "
            f"of the data have more, up to {max(lengths)}: got --max-length {job.run.settings.max_length}, expected at "
            f"most {window}; give --max-length {window}, or name a model with a wider window"
        )


def mismatched_tokens(prepared: Prepared) -> list[int]:
    """Return the tokens of prompt + mismatched response of each training pair."""
    return [
        len(pair.prompt_ids) + len(ids) for pair, ids in zip(prepared.tokens.pairs, prepared.mismatched, strict=True)
    ]


def reference_logps(prepared: Prepared, loss: Loss, model: Any, visited: np.ndarray) -> Reference | None:
    """Return the log-probs that `loss` needs of the start checkpoint, `model`, on the visited pairs, or None."""
    if not uses_reference(loss):
        return None
    groups = [(pair.prompt_ids, (pair.chosen_ids, pair.rejected_ids)) for pair in prepared.tokens.pairs]
    both = cached_pass(prepared, model, groups, visited, tokens=loss.needs_reference_tokens)
    reference = Reference(
        chosen=both.sums[0],
        rejected=both.sums[1],
        tokens=None if both.tokens is None else (both.tokens[0], both.tokens[1]),
        seconds=both.seconds,
        cached=both.cached,
    )
    if loss.needs_reference_entropy:
        entropy = cached_pass(prepared, model, groups, visited, name="-entropy", entropy=True)
        reference = _with_entropy(reference, entropy)
    if not loss.needs_kl:
        return reference
    others = [(pair.prompt_ids, (ids,)) for pair, ids in zip(prepared.tokens.pairs, prepared.mismatched, strict=True)]
    name = f"-mismatched-{fingerprint(prepared.mismatched)}"
    mismatches = cached_pass(prepared, model, others, visited, name=name)
    return replace(
        reference,
        mismatched=mismatches.sums[0],
        seconds=reference.seconds + mismatches.seconds,
        cached=reference.cached and mismatches.cached,
    )


def _with_entropy(reference: Reference, found: Pass) -> Reference:
    """Return the reference with the mean entropy of each response."""
    chosen, rejected = found.sums / found.lengths
    return replace(
        reference,
        entropy=(chosen, rejected),
        seconds=reference.seconds + found.seconds,
        cached=reference.cached and found.cached,
    )


def cached_pass(
    prepared: Prepared,
    model: Any,
    groups: Sequence[Group],
    visited: np.ndarray,
    *,
    name: str = "",
    tokens: bool = False,
    entropy: bool = False,
) -> Pass:
    """Return what the reference model says of each response: its log-probs, or with `entropy` how uncertain it was."""
    dtype, weight = prepared.job.run.settings.dtype, next(model.parameters())
    plain = prepared.job.run.plain_path

    def compute(indices: Sequence[int]) -> list[Ragged]:
        batch = collate([groups[i] for i in indices]).to(weight.device)
        with torch.no_grad(), torch.autocast(weight.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            if entropy:
                values = response_entropies(model, batch, plain=plain)
            else:
                values = (plain_logps if plain else response_logps)(model, batch).token
        rows = zip(values.cpu().numpy(), batch.mask_NT.cpu().numpy(), strict=True)
        responses = [token[mask] for token, mask in rows]  # the first response of every pair, then the second
        return [responses[start : start + len(indices)] for start in range(0, len(responses), len(indices))]

    products = f"onednn{cpu_matmul.STEP}" if cpu_matmul.by_onednn() else cpu_matmul.library()
    kind = f"{dtype}-{str(weight.dtype).removeprefix('torch.')}-{weight.device.type}-{products}{'-plain' * plain}"
    key = f"{prepared.start.fingerprint}-{prepared.tokens.fingerprint}-{kind}-protocol{PROTOCOL}{name}"
    with one_at_a_time(prepared.job.cache, f"reference {key}"):
        return reference_pass(
            prepared.job.cache / "reference",
            key,
            visited,
            compute,
            block_pairs=BLOCKS.get(weight.device.type, 16),
            lengths=np.array([[len(response) for response in responses] for _, responses in groups]).T,
            tokens=tokens,
        )


def visit_flops(
    prepared: Prepared, loss: Loss, tokens: Sequence[int], mismatched_tokens: Sequence[int] | None
) -> list[float]:
    """Return what visits of pairs with so many tokens cost under `loss`, reference and extra passes included."""
    settings = prepared.job.run.settings
    in_parts = settings.micro_pairs < settings.batch_pairs
    return loss_flops(loss, tokens, prepared.start.parameters, in_parts=in_parts, mismatched=mismatched_tokens)


def cell_plan(prepared: Prepared, cell: Cell) -> Plan:
    """Return which pairs each step of the cell visits."""
    loss, settings = cell.system.loss, prepared.job.run.settings
    tokens = pair_tokens(prepared)
    flops = visit_flops(prepared, loss, tokens, mismatched_tokens(prepared) if loss.needs_kl else None)
    return plan(
        Budget.parse(settings.budget),
        batch_pairs=settings.batch_pairs,
        seed=cell.seed,
        cost=Cost(tokens=tokens, flops=flops, before=prepared.before),
        evaluate_at=prepared.job.run.evaluate_at,
        often=prepared.often,
    )
