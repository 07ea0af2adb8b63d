"""Nano models: cached, bit-identical, fine-tuned on response tokens alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.api import Dataset, HarnessError, Message, Pair
from harness.data.tokens import Limits, encode_many
from harness.models import nano
from harness.models.families import FAMILIES
from harness.models.nano import NanoRecipe, make_nano, train_tokenizer
from harness.models.sft import Recipe
from harness.models.start import StartRequest, fingerprint, sft_examples
from harness.run_folder.one_at_a_time import LOCKS

LIMITS = Limits(max_length=96, max_prompt=48)
RECIPE = NanoRecipe(sft=Recipe(sequences=48, learning_rate=3e-3, batch_size=8))


def a_pair(n: int) -> Pair:
    context = (Message(role="user", content=f"What colour is number {n}?"),)
    return Pair(pair_id=str(n), prompt_id=str(n), context=context, chosen=f"Number {n} is red.", rejected="It is blue.")


DATA = Dataset(name="small", train=tuple(a_pair(n) for n in range(30)), dev=(), test=())


def request(cache: Path, **options: Any) -> StartRequest:
    return StartRequest(
        **{"model": "qwen", "preset": "nano", "dataset": DATA, "limits": LIMITS, "cache": cache} | options
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    lines: list[str] = []
    cache = tmp_path_factory.mktemp("cache")
    return make_nano(FAMILIES["qwen"], request(cache, progress=lines.append), RECIPE), cache, lines


def test_the_checkpoint_says_what_it_is(made: Any) -> None:
    start, cache, lines = made
    model = AutoModelForCausalLM.from_pretrained(start.folder)
    assert (start.family, start.preset, start.id) == ("qwen", "nano", "nano-qwen")
    assert start.folder == cache / start.revision
    assert start.parameters == model.num_parameters()
    assert start.fingerprint == fingerprint(start.folder)
    assert "ranks no method" in start.note
    assert any("nats per response token" in line for line in lines)


def test_the_second_call_reuses_the_cache_and_says_so(made: Any) -> None:
    start, cache, _ = made
    written = (start.folder / "model.safetensors").stat().st_mtime_ns
    lines: list[str] = []
    assert make_nano(FAMILIES["qwen"], request(cache, progress=lines.append), RECIPE) == start
    assert (start.folder / "model.safetensors").stat().st_mtime_ns == written
    assert lines == [f"nano qwen: reused from {start.folder}"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "start.json"])
def test_a_checkpoint_that_was_damaged_in_the_cache_is_made_anew_and_the_same(
    name: str, made: Any, tmp_path: Path
) -> None:
    cache = shutil.copytree(made[1], tmp_path / "cache")
    path = cache / made[0].revision / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    lines: list[str] = []
    again = make_nano(FAMILIES["qwen"], request(cache, progress=lines.append), RECIPE)
    assert lines[0] == f"nano qwen: {again.folder} is damaged ({name}) and made anew"
    assert again.fingerprint == made[0].fingerprint
    assert path.read_bytes() == whole


def test_a_checkpoint_of_an_earlier_version_is_reused_as_it_is(made: Any, tmp_path: Path) -> None:
    cache = shutil.copytree(made[1], tmp_path / "cache")
    account = cache / made[0].revision / "start.json"
    facts = {name: value for name, value in json.loads(account.read_text()).items() if name not in ("files", "sha256")}
    account.write_text(json.dumps(facts, indent=1))
    lines: list[str] = []
    assert make_nano(FAMILIES["qwen"], request(cache, progress=lines.append), RECIPE).fingerprint == made[0].fingerprint
    assert len(lines) == 1


def test_two_caches_hold_the_same_bits(made: Any, tmp_path: Path) -> None:
    start, _, _ = made
    again = make_nano(FAMILIES["qwen"], request(tmp_path), RECIPE)
    names = sorted(path.name for path in start.folder.iterdir())
    assert sorted(path.name for path in again.folder.iterdir()) == names
    for name in names:
        assert (again.folder / name).read_bytes() == (start.folder / name).read_bytes(), name
    assert {path.name for path in tmp_path.iterdir()} - {LOCKS} == {again.revision}


@pytest.mark.parametrize("change", ["seed", "limits", "recipe", "data", "family"])
def test_whatever_goes_in_changes_the_key(
    made: Any, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, _, _ = made

    class StopError(Exception):
        pass

    def stop(cache: Path, key: str, *rest: object) -> None:
        raise StopError(key)

    monkeypatch.setattr("harness.models.nano.cached", stop)
    with pytest.raises(StopError) as stopped:
        make_nano(
            FAMILIES["gemma" if change == "family" else "qwen"],
            request(
                tmp_path,
                dataset=replace(DATA, train=DATA.train[1:]) if change == "data" else DATA,
                limits=Limits(max_length=97, max_prompt=48) if change == "limits" else LIMITS,
                seed=1 if change == "seed" else 0,
            ),
            recipe=replace(RECIPE, sft=replace(RECIPE.sft, batch_size=4)) if change == "recipe" else RECIPE,
        )
    assert stopped.value.args[0] != start.revision


def test_a_draft_that_failed_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no sequences to fine-tune on"):
        make_nano(FAMILIES["qwen"], request(tmp_path, dataset=replace(DATA, train=())), RECIPE)
    assert {path.name for path in tmp_path.iterdir()} <= {LOCKS}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_tokenizer_read_back_gives_the_same_ids(tmp_path: Path, family: str) -> None:
    tokenizer = train_tokenizer(FAMILIES[family], ["Hello there"], 400)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(FAMILIES[family].nano_config(2048).to_json_string())
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "  Zürich — 東京 🙂\n\ttabs  "
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    context = (Message(role="user", content=text),)
    assert encode_many(again, [(context, text)], LIMITS) == encode_many(tokenizer, [(context, text)], LIMITS)


def test_fine_tuning_takes_the_sft_split_or_every_response_once() -> None:
    own = (((Message(role="user", content="Hi"),), "Hello."),)
    assert sft_examples(replace(DATA, sft=own)) == list(own)
    twice = sft_examples(replace(DATA, train=(DATA.train[0], DATA.train[0])))
    assert [response for _, response in twice] == ["Number 0 is red.", "It is blue."]


def test_only_what_is_visited_is_tokenised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    plain_encode, plain_train = nano.encoded_examples, nano.train_tokenizer
    monkeypatch.setattr(nano, "TOKENIZER_EXAMPLES", 15)
    monkeypatch.setattr(
        nano, "encoded_examples", lambda t, rows, asked: taken.append(len(rows)) or plain_encode(t, rows, asked)
    )
    monkeypatch.setattr(
        nano, "train_tokenizer", lambda f, texts, v: taken.append(len(texts)) or plain_train(f, texts, v)
    )
    recipe = NanoRecipe(sft=replace(RECIPE.sft, sequences=8))
    make_nano(FAMILIES["qwen"], request(tmp_path), recipe)
    assert len(sft_examples(DATA)) == 60
    assert taken == [30, 8]  # a question and an answer each of 15 examples; 8 sequences


def test_weights_are_stored_in_fp32_and_tied_ones_once(made: Any) -> None:
    start, _, _ = made
    weights = load_file(start.folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert "lm_head.weight" not in weights
    assert json.loads((start.folder / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]


def test_a_template_that_refuses_every_row_names_one_of_them_with_its_words(tmp_path: Path) -> None:
    call = '{"tool_calls": [{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}'
    context = (*DATA.train[0].context, Message(role="assistant", content="", tools=call))
    context = (*context, Message(role="tool", content="42", tools="{}"))
    refused = replace(DATA, train=tuple(replace(pair, context=context) for pair in DATA.train))
    with pytest.raises(HarnessError, match=r"pair '0' of train and every other pair: .*it renders no calls of tools"):
        make_nano(FAMILIES["qwen"], replace(request(tmp_path), dataset=refused), RECIPE)
