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

from harness.api import Candidate, Dataset, HarnessError, LoadOptions, Pair, Selector, StartLogps
from harness.cell import run_model
from harness.data.heldout import HeldOut
from harness.data.selectors.baselines import Random
from harness.data.simulator.synthetic import harness_datasets
from harness.manager import Owner, plugin_manager, resolver
from harness.planning.grid import System, cells
from harness.planning.job import Job
from harness.planning.run_file import make_run
from harness.score.transformers import harness_scorers
from harness.training.prepared import Prepared
from harness.training.selecting import checked

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


@pytest.mark.parametrize(
    "answer", [[0, 0], [0], [0, 1, 2], [0, 4], [-1, 0], [0.0, 1.0], [True, False], [[0], [1]], ["a", "b"]]
)
def test_a_choice_that_is_none_is_refused_with_what_was_expected(answer: list[Any]) -> None:
    with pytest.raises(HarnessError, match=r"selector 'random' returned .*, expected the indices of 2 of 4 pairs"):
        checked(Random(share=0.5), np.array(answer), 4)


def test_a_choice_stands_in_the_order_of_the_data() -> None:
    assert checked(Random(share=0.5), np.array([3, 1]), 4) == [1, 3]
