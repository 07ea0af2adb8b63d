"""What a run is estimated to take: tokens and FLOPs, counted by hand on two pairs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from harness.api import (
    Dataset,
    Listwise,
    Loss,
    Message,
    Pair,
    PairLogps,
    Response,
    ResponseLogps,
    ScorerSource,
    Selector,
    Terms,
)
from harness.execute import workers
from harness.execute.campaign import assemble, manifest
from harness.execute.resolve import resolve
from harness.execute.scorer_choice import choose_scorer, start_and_choose_scorer
from harness.manager import of_one_plugin, plugin_manager, resolver, scorers
from harness.planning.estimates import Visits, estimates, visits
from harness.planning.grid import Cell, System
from harness.planning.run_file import make_run
from harness.run_folder.manifest import write_manifest

TOKENS = Visits(pairs=[100, 200], mismatched=[30, 50], packed=[80, 150], longest=110, held_out=0)


def pair(name: str, prompt: int, chosen: int, rejected: int) -> Pair:
    """Return a pair of texts of so many characters."""
    return Pair(
        pair_id=name,
        prompt_id=name,
        context=(Message(role="user", content="p" * prompt),),
        chosen="c" * chosen,
        rejected="r" * rejected,
        score_chosen=2.0,
        score_rejected=1.0,
    )


def flops_of(name: str, parameters: int = 10) -> float:
    """Return the estimated FLOPs of one step of two pairs of 100 and 200 tokens under a shipped loss."""
    return flops_under(resolver(plugin_manager())(name, {}), parameters)


def flops_under(loss: Loss, parameters: int = 10) -> float:
    run = make_run({"budget": "steps=1", "batch_pairs": 2, "micro_pairs": 1})
    cell = Cell(key="k", model="qwen", system=System(loss=loss, label=loss.name), seed=0)
    (one,) = estimates(run, TOKENS, [(cell, parameters)])
    assert one.tokens == 300
    return one.flops


def test_the_tokens_of_a_pair_are_its_characters_over_three_and_a_half_and_the_templates_own() -> None:
    data = Dataset(name="d", train=(pair("a", 70, 35, 105), pair("b", 0, 0, 0)), dev=(), test=())
    found = visits(data, make_run({}))
    assert found.pairs == [2 * 20 + 10 + 30 + 8, 8]
    # mean response: (35 + 105 + 0 + 0) / 4 = 35 characters, 10 tokens
    assert found.mismatched == [20 + 10 + 4, 10 + 4]


def test_choosing_costs_a_pass_over_all_candidates_and_a_probe_its_training() -> None:
    known: dict[str, type[Selector]] = of_one_plugin(plugin_manager(), "harness_selectors")

    def chosen_by(name: str, **options: object) -> float:
        return replace(TOKENS, listed=700).choosing(known[name].from_options(options))

    assert TOKENS.choosing(None) == chosen_by("random") == chosen_by("largest-margin") == 0
    assert chosen_by("easiest") == chosen_by("dcrm", share=0.1) == 2 * 300
    assert chosen_by("dcrm-pairing") == 2 * 700
    # DPO on 4 pairs of 150 tokens on average, forward and backward, and a pass more
    assert chosen_by("dual-margin", probe=4) == 2 * 300 + 6 * 4 * 150 + 2 * 300


def test_responses_of_training_lists_are_read_with_their_prompt() -> None:
    texts = [Response(response_id=str(count), text="r" * count) for count in (35, 70, 105)]
    prompt = Listwise(prompt_id="p", context=pair("a", 70, 1, 2).context, responses=tuple(texts))
    data = Dataset(name="d", train=(pair("a", 70, 1, 2),), dev=(), test=(), listwise_train=(prompt,))
    assert visits(data, make_run({})).listed == 3 * 20 + 10 + 20 + 30


def test_a_budget_in_flops_pays_for_the_choice_before_the_steps() -> None:
    run = make_run({"budget": "flops=100000", "batch_pairs": 2})
    cell = Cell(key="k", model="m", system=System(loss=resolver(plugin_manager())("simpo", {}), label="s"), seed=0)
    (plain,), (choosing,) = (estimates(run, TOKENS, [(cell, 10)], choosing=share) for share in (0.0, 5000.0))
    assert plain.plan.steps == 5  # 100,000 over 6 x 10 x 300
    assert (choosing.plan.steps, choosing.choosing) == (2, 50_000)  # half of it


def test_a_loss_without_a_reference_costs_six_flops_a_parameter_and_token() -> None:
    assert flops_of("simpo") == 6 * 10 * 300


def test_a_reference_pass_costs_two_more_a_parameter_and_token() -> None:
    assert flops_of("dpo") == 8 * 10 * 300


def test_a_loss_that_wants_the_references_tokens_alone_pays_for_its_pass() -> None:
    @dataclass(frozen=True, kw_only=True)
    class OfTokens(Loss):
        name: ClassVar[str] = "of-tokens"
        needs_reference_tokens = True

        def terms(self, pairs: PairLogps) -> Terms:
            return Terms.of(-pairs.chosen.mean())

        def reward(self, response: ResponseLogps) -> object:  # type: ignore[override]
            return response.sum

    assert flops_under(OfTokens()) == 8 * 10 * 300


def test_kto_pays_for_the_mismatched_response_under_policy_and_reference() -> None:
    # 6 N + 2 N for the reference + 2 N because it is coupled over the step; 2 N twice on 30 + 50 mismatched tokens
    assert flops_of("kto") == 10 * 10 * 300 + 4 * 10 * 80


def test_a_batch_coupled_loss_pays_for_its_extra_forward() -> None:
    assert flops_of("aot") == 10 * 10 * 300


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--plugins", "all", "--models", "qwen,gemma,mistral", "--dry-run"],
        ["plugins", "list"],
        ["plugins", "show", "gappo"],
    ],
    ids=["dry run", "plugins list", "plugins show"],
)
def test_what_only_plans_or_lists_the_shipped_losses_imports_no_torch(words: list[str], tmp_path: Path) -> None:
    code = """
import importlib.metadata, json, sys
installed = importlib.metadata.entry_points
def entry_points(**asked):
    found = installed(**asked)  # whoever brings another loss pays for its imports
    return [e for e in found if e.dist.name == "preference-harness"] if asked.get("group") == "harness" else found
importlib.metadata.entry_points = entry_points
from harness.__main__ import main
try:
    main()
except SystemExit as left:
    heavy = ("torch", "transformers", "datasets", "vllm", "pandas", "scipy", "altair", "peft", "accelerate")
    print(json.dumps({"code": left.code, "loaded": [name for name in heavy if name in sys.modules]}), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *words, *(["--output-dir", str(tmp_path / "run")] if "run" in words else [])],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""},
    )
    said = json.loads(done.stderr.splitlines()[-1])
    assert said == {"code": 0, "loaded": []}


def test_a_dry_run_does_not_try_a_scorer_that_was_never_tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ask", lambda question: question())  # here, where what it does is seen
    tried: list[str] = []
    source = ScorerSource(
        name="vllm", version=str, why_not=lambda: tried.append("vllm"), untried=lambda: True, open=lambda *_: None
    )  # type: ignore[func-returns-value,arg-type]
    assert choose_scorer("auto", {"vllm": source}, dry=True)[0] is source
    assert choose_scorer("vllm", {"vllm": source}, dry=True)[0] is source
    assert tried == []
    choose_scorer("auto", {"vllm": source})
    assert tried == ["vllm"]


def test_resolving_a_run_starts_and_tries_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("resolve has started something")

    monkeypatch.setattr(workers, "context", started)
    monkeypatch.setattr(workers, "ask", started)
    resolved = resolve(make_run({"plugins": "simpo", "scorer": "auto", "limit": 20}), tmp_path / "run", False)
    assert [cell.system.label for cell in resolved.grid] == ["simpo"]
    assert list(tmp_path.iterdir()) == []


def test_imports_begin_in_a_real_run_alone_before_its_scorer_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    began: list[object] = []
    monkeypatch.setattr(workers, "context", lambda *, vllm: began.append(vllm))
    resolved = resolve(make_run({"plugins": "simpo", "scorer": "transformers", "limit": 20}), tmp_path, False)
    start_and_choose_scorer(resolved, dry=True)
    assert began == []
    start_and_choose_scorer(resolved, dry=False)
    assert began == [False]


def test_a_run_that_goes_on_in_a_merged_folder_keeps_where_its_cells_are_from(tmp_path: Path) -> None:
    run = make_run({"plugins": "simpo", "scorer": "transformers", "limit": 20})
    resolved = resolve(run, tmp_path, False)
    scorer = choose_scorer("transformers", scorers(resolved.manager))
    first = manifest(assemble(resolved, scorer))
    assert "sources" not in first.as_json()
    write_manifest(tmp_path, first.model_copy(update={"sources": {"here": {"cells": ["one"]}}}))
    assert manifest(assemble(resolved, scorer)).sources == {"here": {"cells": ["one"]}}
