"""`harness run --generate`: what models answer, each by a seed of its own, and how far that is from the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.exchange.verify import verify
from harness.run_folder.record import Record
from harness.run_folder.store import read_records

SMALL = (
    "run", "--plugins", "simpo", "--models", "qwen", "--limit", "16", "--budget", "pairs=16", "--scorer",
    "transformers", "--no-pictures",
)  # fmt: skip
ASKED = ("--generate", "5", "--samples", "2", "--max-new-tokens", "24")


@pytest.fixture(scope="module")
def run(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers") / "run"
    done = harness(*SMALL, *ASKED, "--keep-checkpoints", "--output-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "Answers   2 to each of the first 5 held-out prompts, at temperature 1, top-p 1, up to 24 tokens" in done.stdout
    )
    return folder


def of(run: Path, label: str) -> tuple[Record, pd.DataFrame]:
    record = next(record for record in read_records(run) if record.label == label)
    return record, pd.read_parquet(record.folder / "generations.parquet")


def test_the_base_and_every_cell_answer_the_same_prompts_by_the_same_seeds(run: Path) -> None:
    base, cell = of(run, "base")[1], of(run, "simpo")[1]
    for table in (base, cell):
        assert len(table) == 10
        assert table["prompt_id"].nunique() == 5
        assert list(table["sample"]) == [0, 1] * 5
        assert table["seed"].nunique() == 10
    assert list(base["seed"]) == list(cell["seed"])
    assert list(base["prompt_id"]) == list(cell["prompt_id"])
    assert set(cell["prompt_id"]) <= set(of(run, "simpo")[0].rows()["prompt_id"])


def test_log_probs_of_answers_are_those_of_a_plain_forward_of_both_models(run: Path) -> None:
    """The outside truth: transformers' own forward, in fp64, on the kept weights and on the start checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    record, table = of(run, "simpo")
    assert record.scored
    weights = record.folder / "weights"
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(weights)
    prompts = prompts_of(run)
    for _, row in table.iterrows():
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompts[row["prompt_id"]]}], add_generation_prompt=True, return_dict=False
        )
        ids = torch.tensor([[*prompt, *row["tokens"]]])
        with torch.no_grad():
            logps = model(ids).logits[0].log_softmax(-1)
        expected = sum(logps[at - 1, ids[0, at]].item() for at in range(len(prompt), ids.shape[1]))
        assert row["sum_logp"] == pytest.approx(expected, abs=1e-3)


def prompts_of(run: Path) -> dict[str, str]:
    from harness.api import LoadOptions
    from harness.data.sources import load
    from harness.manager import datasets, plugin_manager

    assert json.loads((run / "manifest.json").read_text())["run"]["dataset"] == "embedded"
    data = load("embedded", LoadOptions(), datasets(plugin_manager()))
    return {pair.prompt_id: pair.context[-1].content for pair in data.test if len(pair.context) == 1}


def test_the_start_checkpoint_is_at_no_distance_from_itself_and_a_trained_one_is(run: Path) -> None:
    base, cell = of(run, "base")[1], of(run, "simpo")[1]
    assert base["kl_log_ratio"].abs().max() < 1e-3
    assert base["kl_low_variance"].max() < 1e-6
    assert (cell["kl_low_variance"] > 0).all()
    assert list(cell["kl_log_ratio"]) == pytest.approx(list(cell["sum_logp"] - cell["ref_sum_logp"]))


def test_a_record_has_the_settings_and_the_means_over_prompts(run: Path) -> None:
    record, table = of(run, "simpo")
    facts = record.generation
    assert facts is not None
    assert (facts.prompts, facts.samples, facts.temperature, facts.top_p, facts.max_new_tokens) == (5, 2, 1, 1, 24)
    assert facts.metrics["length"] == pytest.approx(table["tokens"].map(len).mean())
    assert facts.metrics["cut"] == pytest.approx((table["finish"] == "length").mean())
    assert facts.metrics["kl_log_ratio"] == pytest.approx(table["kl_log_ratio"].mean())
    assert record.files is not None
    assert "generations.parquet" in record.files


def test_such_a_run_is_verified_and_a_changed_answer_is_found(run: Path) -> None:
    assert not verify(run).problems, verify(run).text()
    record, table = of(run, "simpo")
    path = record.folder / "generations.parquet"
    before = path.read_bytes()
    table.assign(text="something else").to_parquet(path, index=False)
    assert any("generations.parquet" in problem for problem in verify(run).problems)
    path.write_bytes(before)


def test_answers_change_nothing_else_and_greedy_ones_have_no_divergence(
    run: Path, harness: Any, tmp_path: Path
) -> None:
    done = harness(*SMALL, *ASKED, "--temperature", "0", "--output-dir", str(tmp_path / "greedy"))
    assert done.returncode == 0, done.stdout + done.stderr
    record, table = of(tmp_path / "greedy", "simpo")
    assert table["kl_log_ratio"].isna().all()
    assert record.generation is not None
    assert record.generation.metrics["kl_low_variance"] is None
    assert (table.groupby("prompt_id")["text"].nunique() == 1).all()  # whatever the seed
    sampled = of(run, "simpo")[0]
    for name in ("rows.parquet", "responses.parquet"):
        assert (record.folder / name).read_bytes() == (sampled.folder / name).read_bytes()
    assert np.isclose(record.metrics["pairwise_accuracy"] or 0, sampled.metrics["pairwise_accuracy"] or 0)

    again = harness(*SMALL, *ASKED, "--output-dir", str(tmp_path / "greedy"))
    assert again.returncode == 2
    assert "temperature was 0.0, now 1.0" in again.stderr


def test_answers_that_the_context_window_has_no_room_for_are_refused_before_training(
    harness: Any, tmp_path: Path
) -> None:
    done = harness(*SMALL, "--generate", "5", "--max-new-tokens", "100000", "--output-dir", str(tmp_path / "run"))
    assert done.returncode != 0
    assert "its context window, and a prompt with its answer has up to 100" in done.stderr.replace("\n", " ")
