"""What selectors are given, what becomes of their choice, and what it costs: on a nano model with 16 pairs."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from harness.api import (
    Candidate,
    Dataset,
    HarnessError,
    LoadOptions,
    Pair,
    Selector,
    StartLogps,
    best_of_each_prompt,
    score_margins,
)
from harness.cell import run_model, selected
from harness.data.heldout import HeldOut
from harness.data.selectors.baselines import Random
from harness.data.simulator.synthetic import harness_datasets
from harness.data.tokens import Limits, TokenPair, encode_many
from harness.manager import Owner, plugin_manager, resolver
from harness.models.load import load_tokenizer
from harness.planning.grid import System, cells
from harness.planning.job import Job
from harness.planning.run_file import make_run
from harness.score.transformers import harness_scorers
from harness.training.prepared import Prepared, cell_plan
from harness.training.selecting import Choice, checked, described

PAIRS = 16
OWNER = Owner(entry_point="tests", distribution="tests", version="1")


@dataclass(frozen=True, kw_only=True)
class Listens(Selector):
    """Takes the last pairs, and keeps what it was given."""

    name: ClassVar[str] = "listens"
    needs_logps: ClassVar[bool] = True
    heard: list[Any] = field(default_factory=list)

    def select(self, pairs: tuple[Candidate, ...], logps: StartLogps | None, rng: np.random.Generator) -> np.ndarray:
        self.heard.append((pairs, logps, rng))
        return np.arange(len(pairs))[-self.count(len(pairs)) :][::-1]


def job(folder: Path, cache: Path, selector: Selector | None, **settings: Any) -> Job:
    data = harness_datasets()[0].load(LoadOptions())
    cut = replace(data, train=data.train[:PAIRS], test=data.test[:PAIRS], test_lenbalanced=(), listwise_test=())
    (scorer,) = harness_scorers()
    names, seeds = ("simpo", "dpo"), (0, 1)
    systems = [System(loss=resolver(plugin_manager())(name, {}), label=name) for name in names]
    return Job(
        run=make_run({"budget": "pairs=16", "batch_pairs": 4, "scorer": "transformers", "seeds": seeds} | settings),
        model="qwen",
        cells=tuple(cells(["qwen"], systems, seeds)),
        owners=dict.fromkeys(names, OWNER),
        dataset=cut,
        scorer=scorer,
        canary=None,
        scorer_note="",
        folder=folder / "run",
        cache=cache,
        keep_checkpoints=False,
        side_by_side=1,
        threads=torch.get_num_threads(),
        selector=selector,
    )


def records(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted((folder / "run").glob("cells/*/record.json"))]
    return [record for record in found if record["kind"] == "loss"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Job, Listens]:
    """The folder, job and selector of a run of two losses and two seeds on half of the pairs."""
    folder, selector = tmp_path_factory.mktemp("selecting"), Listens(share=0.5)
    asked = job(folder, cache, selector)
    run_model(asked, lambda event: None)
    return folder, asked, selector


def reachable(*roots: Any) -> Iterator[Any]:
    """Yield all that can be reached from objects, but through types, modules and functions."""
    seen, waiting = set(), list(roots)
    while waiting:
        each = waiting.pop()
        if (
            id(each) in seen
            or isinstance(each, type)
            or type(each).__name__ in ("module", "function", "builtin_function_or_method")
        ):
            continue
        seen.add(id(each))
        yield each
        waiting += gc.get_referents(each)


def test_it_sees_the_training_pairs_once_for_all_losses_and_seeds(ran: tuple[Path, Job, Listens]) -> None:
    _, asked, selector = ran
    ((pairs, logps, _),) = selector.heard
    assert [pair.pair_id for pair in pairs] == [pair.pair_id for pair in asked.dataset.train]
    assert [pair.chosen for pair in pairs] == [pair.chosen for pair in asked.dataset.train]
    assert logps.chosen.shape == logps.rejected.shape == (PAIRS,)
    assert (logps.chosen < 0).all()


def test_nothing_of_the_test_split_and_no_true_quality_can_be_reached_from_what_it_gets(
    ran: tuple[Path, Job, Listens],
) -> None:
    _, asked, selector = ran
    ((pairs, logps, rng),) = selector.heard
    found = list(reachable(pairs, logps, rng))
    assert not [each for each in found if isinstance(each, Pair | Dataset | HeldOut | Prepared | Job)]
    held = {text for pair in asked.dataset.test for text in (pair.chosen, pair.rejected, pair.pair_id)}
    held -= {text for pair in asked.dataset.train for text in (pair.chosen, pair.rejected)}
    assert held.isdisjoint(each for each in found if isinstance(each, str))
    assert {pair.chosen for pair in asked.dataset.train} <= {each for each in found if isinstance(each, str)}


def test_what_it_was_given_are_the_log_probs_that_base_has(ran: tuple[Path, Job, Listens], tmp_path: Path) -> None:
    """The same pairs, scored as if they were held out."""
    _, asked, selector = ran
    held_out = replace(asked.dataset, test=asked.dataset.train)
    vars(held_out)["fingerprint"] = asked.dataset.fingerprint  # so that the start checkpoint is not made again
    scored = replace(asked, folder=tmp_path / "run", selector=None, cells=(), dataset=held_out)
    run_model(scored, lambda event: None)
    (path,) = (tmp_path / "run").glob("cells/qwen--base*/rows.parquet")
    rows = pd.read_parquet(path).set_index("pair_id").loc[[pair.pair_id for pair in asked.dataset.train]]
    ((_, logps, _),) = selector.heard
    np.testing.assert_allclose(logps.chosen, rows["chosen_sum_logp"], atol=1e-3)
    np.testing.assert_allclose(logps.rejected, rows["rejected_sum_logp"], atol=1e-3)


def test_every_loss_and_seed_trains_on_what_was_chosen(ran: tuple[Path, Job, Listens]) -> None:
    folder, asked, _ = ran
    kept = asked.dataset.train[PAIRS // 2 :]
    found = records(folder)
    assert len(found) == 4
    assert len({record["tokens_fingerprint"] for record in found}) == 1
    for record in found:
        assert record["dataset"]["train_pairs"] == 8
        assert record["spend"]["epochs"] == 2  # 16 visits of 8 pairs
        before, after = (record["dataset"]["selection"][when] for when in ("before", "after"))
        assert (before["pairs"], after["pairs"]) == (16, 8)
        for facts, pairs in ((before, asked.dataset.train), (after, kept)):
            assert facts["score_gap"] == pytest.approx(np.mean([p.score_chosen - p.score_rejected for p in pairs]))
            assert facts["wrong_labels"] == np.mean([p.true_chosen < p.true_rejected for p in pairs])


def test_choosing_is_charged_to_every_cell(ran: tuple[Path, Job, Listens]) -> None:
    folder, _, selector = ran
    ((pairs, _, _),) = selector.heard
    for record in records(folder):
        spend, parameters = record["spend"], record["model"]["parameters"]
        responses = sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs)
        assert spend["selection_flops"] > 2 * parameters * responses  # and the prompts, once per response
        per_token = 8 if record["loss"]["name"] == "dpo" else 6  # forward and backward, and dpo's reference
        assert spend["flops"] == spend["selection_flops"] + per_token * parameters * spend["tokens"]
        assert spend["seconds"] > spend["selection_seconds"] > 0


def test_a_budget_in_flops_pays_for_the_choice_first(
    ran: tuple[Path, Job, Listens], tmp_path: Path, cache: Path
) -> None:
    (simpo, *_) = [record for record in records(ran[0]) if record["loss"]["name"] == "simpo"]
    spend = simpo["spend"]
    enough, too_little = f"flops={spend['flops'] * 1.0001}", f"flops={spend['selection_flops'] * 0.9}"
    asked = job(tmp_path, cache, Listens(share=0.5), budget=enough)
    run_model(replace(asked, cells=tuple(c for c in asked.cells if c.key == simpo["key"])), lambda event: None)
    (again,) = records(tmp_path)
    assert again["spend"]["steps"] == spend["steps"]
    asked = job(tmp_path, cache, Listens(share=0.5), budget=too_little)
    run_model(replace(asked, folder=tmp_path / "more" / "run", cells=asked.cells[:1]), lambda event: None)
    (failed,) = records(tmp_path / "more")
    assert failed["status"] == "failed"
    assert "that choosing the training pairs takes (--select)" in failed["reason"]


@dataclass(frozen=True, kw_only=True)
class Probes(Listens):
    """Asks for a probe on eight pairs, and keeps what it was given."""

    name: ClassVar[str] = "probes"

    @property
    def probe_pairs(self) -> int:
        return 8


def test_a_probe_is_the_dpo_cell_of_so_many_pairs_and_is_charged(
    ran: tuple[Path, Job, Listens], tmp_path: Path, cache: Path
) -> None:
    selector = Probes(share=0.5)
    asked = replace(job(tmp_path, cache, selector), probe=resolver(plugin_manager())("dpo", {}))
    run_model(replace(asked, cells=asked.cells[:1]), lambda event: None)
    ((pairs, logps, _),) = selector.heard
    ((_, start, _),) = ran[2].heard
    np.testing.assert_array_equal(logps.chosen, start.chosen)  # its log-probs do not overwrite those of the start
    alone = job(tmp_path / "alone", cache, None, budget="pairs=8")
    (cell,) = [each for each in alone.cells if each.system.label == "dpo" and each.seed == 0]
    held = replace(alone.dataset, test=alone.dataset.train)  # the training pairs, scored as if they were held out
    run_model(replace(alone, cells=(cell,), dataset=held), lambda event: None)
    rows = pd.read_parquet(alone.folder / "cells" / cell.key / "rows.parquet").set_index("pair_id")
    rows = rows.loc[[pair.pair_id for pair in pairs]]
    np.testing.assert_allclose(logps.probe[0], rows["chosen_sum_logp"], atol=1e-2)
    np.testing.assert_allclose(logps.probe[1], rows["rejected_sum_logp"], atol=1e-2)
    (record,) = records(tmp_path)
    before = records(ran[0])[0]["spend"]["selection_flops"]
    per_pair = before / PAIRS * 3  # training costs 6 N per token where a pass costs 2 N
    assert record["spend"]["selection_flops"] == pytest.approx(2 * before + 8 * per_pair, rel=0.1)


SEEN = tuple(
    Candidate(
        pair_id=str(number), prompt_id=prompt, context=(), chosen="a", rejected="b", chosen_ids=(1,), rejected_ids=(2,)
    )
    for number, prompt in enumerate("ppqqr")
)


@pytest.mark.parametrize("answer", [[0, 0], [0], [0, 1, 2], [0, 5], [-1, 0], [True, False], [[0], [1]], ["a", "b"], []])
def test_a_choice_that_is_none_is_refused_with_what_was_expected(answer: list[Any]) -> None:
    with pytest.raises(HarnessError, match=r"selector 'random' returned .*, expected .* 2 of "):
        checked(Random(share=0.4), np.array(answer), SEEN, 2)


@pytest.mark.parametrize(
    "weights", [[1.0, 2.0], [1.0, 2.0, 0, 0, 3.0], [0, 0, 0, 0, 1.0], [1.0, -1.0, 0, 0, 0], [1.0, np.nan, 0, 0, 0],
                [1.0, np.inf, 0, 0, 0]]
)  # fmt: skip
def test_weights_that_are_none_are_refused_with_what_was_expected(weights: list[float]) -> None:
    expected = r"selector 'random' returned \[.*\], expected weights of all 5 pairs, 2 of them above 0, the others 0"
    with pytest.raises(HarnessError, match=expected):
        checked(Random(share=0.4), np.array(weights), SEEN, 2)


def test_a_choice_stands_in_the_order_of_the_data() -> None:
    assert checked(Random(share=0.4), np.array([3, 1]), SEEN, 2) == Choice(indices=(1, 3))


def test_weights_are_told_as_visits_per_epoch_and_equal_ones_are_none() -> None:
    found = checked(Random(share=0.6), np.array([0.0, 2.0, 0.0, 6.0, 4.0]), SEEN, 3)
    assert found == Choice(indices=(1, 3, 4), often=(2 / 4, 6 / 4, 4 / 4))  # over their mean, 12 / 3
    assert checked(Random(share=0.4), np.array([0.0, 0.3, 0.0, 0.3, 0.0]), SEEN, 2) == Choice(indices=(1, 3))


class Anew(Listens):
    """Pairs anew, by the largest score gap of each prompt."""

    name: ClassVar[str] = "anew"
    needs_lists: ClassVar[bool] = True

    def select(self, pairs: tuple[Candidate, ...], logps: StartLogps | None, rng: np.random.Generator) -> np.ndarray:
        self.heard.append((pairs, logps, rng))
        return best_of_each_prompt(pairs, score_margins(pairs))


def test_of_new_pairs_the_first_are_kept_and_a_prompt_has_one() -> None:
    assert checked(Anew(share=0.4), np.array([4, 1, 2]), SEEN, 2) == Choice(indices=(1, 4))
    for answer in ([4], [4, 4], [0, 1, 4], [4.0, 1.0], [4, 5]):
        with pytest.raises(HarnessError, match="expected indices of 2 or more of 5 pairs, one per prompt"):
            checked(Anew(share=0.4), np.array(answer), SEEN, 2)


def test_the_card_of_weighted_pairs_has_means_by_weight() -> None:
    pairs = [
        Pair(
            pair_id=str(number), prompt_id=str(number), context=(), chosen="a", rejected="b",
            score_chosen=float(gap), score_rejected=0.0, true_chosen=true, true_rejected=0.0,
        )
        for number, (gap, true) in enumerate([(1, 1.0), (2, -1.0), (3, 1.0), (4, 1.0), (5, -1.0)])
    ]  # fmt: skip
    tokens = [
        TokenPair(pair_id="", prompt_ids=(1,), chosen_ids=(1,) * length, rejected_ids=(1,) * 2, truncated=False)
        for length in (1, 2, 3, 4, 5)
    ]
    facts = described(pairs, tokens, (3.0, 1.0, 0.5, 0.25, 0.25))
    mean = (3 * 1 + 1 * 2 + 0.5 * 3 + 0.25 * 4 + 0.25 * 5) / 5  # 8.75 / 5
    assert (facts.score_gap, facts.chosen_tokens, facts.rejected_tokens) == (mean, mean, 2.0)
    assert facts.wrong_labels == (1 + 0.25) / 5
    assert facts.alike == pytest.approx(25 / (9 + 1 + 0.25 + 0.0625 + 0.0625))  # 2.41 of 5 pairs
    assert described(pairs, tokens).as_json() == {
        "pairs": 5, "score_gap": 3.0, "chosen_tokens": 3.0, "rejected_tokens": 2.0, "wrong_labels": 0.4
    }  # fmt: skip


class Weighs(Listens):
    """Half of the pairs, the first of these three times as often as the others."""

    name: ClassVar[str] = "weighs"

    def select(self, pairs: tuple[Candidate, ...], logps: StartLogps | None, rng: np.random.Generator) -> np.ndarray:
        return np.array([3.0] + [1.0] * (self.count(len(pairs)) - 1) + [0.0] * (len(pairs) - self.count(len(pairs))))


def test_weighted_pairs_are_visited_by_weight_within_the_same_budget(tmp_path: Path, cache: Path) -> None:
    asked = job(tmp_path, cache, Weighs(share=0.5))
    prepared = selected(asked, lambda event: None)
    visits = np.concatenate(list(cell_plan(prepared, asked.cells[0]).batches()))
    assert len(visits) == 16
    assert prepared.often == pytest.approx([3 * 0.8, *[0.8] * 7])  # over their mean, 10 / 8
    assert np.bincount(visits, minlength=8)[0] in (4, 5, 6)  # 4.8 in two epochs
    alike = replace(prepared, often=())
    assert prepared.tokens_fingerprint.split("-")[1] == alike.tokens_fingerprint.split("-")[1]
    assert prepared.tokens_fingerprint != alike.tokens_fingerprint
    assert prepared.selection is not None
    assert prepared.selection.after.alike == pytest.approx(100 / 16)  # (3 + 7)^2 / (9 + 7)


def test_new_pairs_are_made_of_training_lists_read_once_per_response(tmp_path: Path, cache: Path) -> None:
    selector = Anew(share=0.5)
    asked = job(tmp_path, cache, selector)
    lists = harness_datasets()[0].load(LoadOptions()).listwise_train[:12]
    data = replace(asked.dataset, listwise_train=lists)
    prepared = selected(replace(asked, dataset=data), lambda event: None)
    best = sorted(
        (
            max(each.score for each in prompt.responses) - min(each.score for each in prompt.responses)
            for prompt in lists
        ),
        reverse=True,
    )[:8]  # of 16 training pairs a half, of 12 prompts those with the largest gaps
    gaps = [pair.score_chosen - pair.score_rejected for pair in prepared.pairs]
    assert sorted(gaps, reverse=True) == pytest.approx(best)
    texts = [(pair.pair_id, pair.chosen_ids) for pair in prepared.tokens.pairs]
    assert [name for name, _ in texts] == [pair.pair_id for pair in prepared.pairs]
    facts, ((seen, logps, _),) = prepared.selection, selector.heard
    assert facts is not None
    assert (facts.before.pairs, facts.after.pairs, facts.candidates) == (16, 8, len(seen))
    assert len(seen) == sum(
        len({one.text, other.text}) == 2 and one.score != other.score
        for prompt in lists
        for number, one in enumerate(prompt.responses)
        for other in prompt.responses[:number]
    )
    responses = [(prompt.context, response.text) for prompt in lists for response in prompt.responses]
    encoded = encode_many(load_tokenizer(prepared.start.folder), responses, Limits(max_length=512, max_prompt=256))
    tokens = sum(len(each.prompt_ids) + len(each.response_ids) for each in encoded)
    assert prepared.before.flops == 2 * prepared.start.parameters * tokens
    by_text = {(pair.prompt_id, pair.chosen): logp for pair, logp in zip(seen, logps.chosen, strict=True)}
    for pair, logp in zip(seen, logps.rejected, strict=True):
        assert by_text.get((pair.prompt_id, pair.rejected), logp) == logp  # one reading of a response in many pairs
