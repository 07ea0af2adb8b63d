"""Models of real layouts from start to record: trained for two steps, scored by both scorers, kept and loaded again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import model_folders
import numpy as np
import pandas as pd
import pytest
import real_layouts
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.api import Dataset, HarnessError, Message, Pair, ScorerOptions
from harness.cell import run_model, try_model
from harness.data.heldout import HeldOut, held_out
from harness.data.tokens import Limits
from harness.manager import Owner, plugin_manager, resolver
from harness.planning.events import CellEvent, CellFailed, TrainingBegins
from harness.planning.grid import System, cells
from harness.planning.job import Job, cell_folder
from harness.planning.run_file import make_run
from harness.run_folder.paths import RESPONSES, WEIGHTS
from harness.run_folder.store import read_record
from harness.score import transformers as other
from harness.score import vllm as scorer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.usefixtures("_vllm"),
    # vLLM's model modules define a torch.jit.ScriptModule when they are imported
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]
CITIES = ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Delhi", "Quito", "Seoul")
LAYOUTS = [*real_layouts.LAYOUTS, "adapter", "gguf", "pickled"]


def pair(city: str) -> Pair:
    context = (Message(role="user", content=f"Where is {city}?"),)
    return Pair(
        pair_id=city,
        prompt_id=city,
        context=context,
        chosen=f"{city} is a capital, and lies on a river.",
        rejected="I do not know.",
    )


PAIRS = tuple(map(pair, CITIES))
DATA = Dataset(name="cities", train=PAIRS, dev=(), test=PAIRS[:4])


def job(source: Path, folder: Path, adapter: str = "full") -> Job:
    options: dict[str, Any] = {"models": (str(source),), "budget": "pairs=8", "batch_pairs": 4, "learning_rate": 1e-3}
    options["adapter"] = adapter
    systems = [System(loss=resolver(plugin_manager())("dpo", {}), label="dpo")]
    return Job(
        run=make_run(options | {"scorer": "vllm"}),
        model="mine",
        source=str(source),
        cells=tuple(cells(["mine"], systems, [0])),
        owners={"dpo": Owner(entry_point="tests", distribution="tests", version="1")},
        dataset=DATA,
        scorer=scorer.harness_scorers()[0],
        canary=other.harness_scorers()[0],
        scorer_note="",
        folder=folder / "run",
        cache=folder / "cache",
        keep_checkpoints=True,
        side_by_side=1,
        threads=torch.get_num_threads(),
    )


def plain_sums(folder: Path, held: HeldOut) -> np.ndarray:
    """Summed log-probs by transformers' own forward in fp64, each sequence alone: the outside truth."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    model = model.double().eval()  # an adapter that was loaded with it too
    sums = []
    for request in held.requests:
        ids = torch.tensor([*request.prompt, *request.response])
        with torch.no_grad():
            table = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        sums.append(sum(table[at - 1, ids[at]].item() for at in range(len(request.prompt), len(ids))))
    return np.array(sums)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_is_trained_scored_by_both_and_kept_so_that_it_loads_by_itself(
    layout: str, tmp_path: Path, assert_same_nats: Callable[[np.ndarray, np.ndarray], None]
) -> None:
    work = job(model_folders.any_layout(layout, tmp_path / "model"), tmp_path)
    events: list[CellEvent] = []

    run_model(work, events.append)

    assert not [event for event in events if isinstance(event, CellFailed)]
    cell = cell_folder(work, work.cells[0].key)
    record, kept = read_record(cell), cell / WEIGHTS
    assert (record.status, record.spend.pairs) == ("ok", 8)
    assert record.scorer.parity_max_abs_nats is not None
    assert record.scorer.parity_max_abs_nats < 1e-3

    # the kept folder, without the harness: its tokenizer gives the ids that were scored, its weights their log-probs
    tokenizer = AutoTokenizer.from_pretrained(kept)
    settings = work.run.settings
    held = held_out(tokenizer, DATA, "test", Limits(max_length=settings.max_length, max_prompt=settings.max_prompt))
    responses = pd.read_parquet(cell / RESPONSES)
    assert len(held.requests) == len(responses)
    assert_same_nats(responses["sum_logp"].to_numpy(), plain_sums(kept, held))
    live = other.open_transformers(kept, ScorerOptions(max_length=settings.max_length))
    assert_same_nats(live.score(held.requests), plain_sums(kept, held))

    base = read_record(next(path.parent for path in work.folder.glob("cells/mine--base*/record.json")))
    assert base.model.fingerprint == record.model.fingerprint
    assert not np.allclose(responses["sum_logp"], responses["ref_sum_logp"])  # it was trained


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by peft
@pytest.mark.parametrize(
    ("layout", "adapter"),
    [("llama-3", "lora:r=4,targets=down_proj+q_proj"), ("phi-3", "lora"), ("qwen-3", "qlora:r=4")],
)
def test_an_adapter_is_trained_scored_by_both_and_kept_so_that_transformers_loads_it_with_its_start(
    layout: str, adapter: str, tmp_path: Path, assert_same_nats: Callable[[np.ndarray, np.ndarray], None]
) -> None:
    if adapter.startswith("qlora"):
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is an extra")
    work = job(model_folders.any_layout(layout, tmp_path / "model"), tmp_path, adapter)
    run_model(work, lambda event: None)

    cell = cell_folder(work, work.cells[0].key)
    record, kept = read_record(cell), cell / WEIGHTS
    assert (record.status, record.board.adapter) == ("ok", adapter)
    assert record.scorer.parity_max_abs_nats is not None
    assert not [path for path in kept.iterdir() if path.name == "config.json"]
    settings = work.run.settings
    limits = Limits(max_length=settings.max_length, max_prompt=settings.max_prompt)
    held = held_out(AutoTokenizer.from_pretrained(kept), DATA, "test", limits)
    responses = pd.read_parquet(cell / RESPONSES)
    assert_same_nats(responses["sum_logp"].to_numpy(), plain_sums(kept, held))
    assert not np.allclose(responses["sum_logp"], responses["ref_sum_logp"])


def test_what_vllm_does_not_take_is_refused_before_training_and_names_the_other_scorer(tmp_path: Path) -> None:
    narrow = real_layouts.narrow_heads(tmp_path / "model")
    work = job(narrow, tmp_path)
    events: list[CellEvent] = []

    with pytest.raises(HarnessError, match=r"'vllm' does not take this model, so nothing was trained: .*--scorer tran"):
        try_model(work, events.append)

    assert not [event for event in events if isinstance(event, TrainingBegins)]
    only = replace(work, scorer=other.harness_scorers()[0], canary=None)
    run_model(replace(only, run=make_run(only.run.model_dump() | {"scorer": "transformers"})), events.append)
    assert read_record(cell_folder(work, work.cells[0].key)).status == "ok"
