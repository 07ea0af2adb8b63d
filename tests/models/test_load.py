"""Start checkpoints by name or folder, models ready for training, and weights back on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from harness.api import Dataset, HarnessError, Message, Pair
from harness.data.tokens import Limits
from harness.models.families import CHATML, FAMILIES
from harness.models.load import load_model, load_tokenizer, save_whole, start_checkpoint
from harness.models.nano import train_tokenizer
from harness.models.sft import Recipe
from harness.models.start import StartRequest

LIMITS = Limits(max_length=64, max_prompt=32)
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


def a_pair(n: int) -> Pair:
    context = (Message(role="user", content=f"Number {n}?"),)
    return Pair(pair_id=str(n), prompt_id=str(n), context=context, chosen=f"{n} is red.", rejected="Blue.")


DATA = Dataset(name="small", train=tuple(a_pair(n) for n in range(8)), dev=(), test=())


def checkpoint(folder: Path, family: str, template: bool = True, **config: Any) -> Path:
    """A folder as somebody else would bring it."""
    torch.manual_seed(0)
    settings = FAMILIES[family].nano_config(512)
    for name, value in config.items():
        setattr(settings, name, value)
    AutoModelForCausalLM.from_config(settings).save_pretrained(folder)
    tokenizer = train_tokenizer(FAMILIES[family], ["Hello there"], 400)
    if not template:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def start(spec: str, cache: Path, **options: Any) -> Any:
    options = {"preset": "nano"} | options
    return start_checkpoint(StartRequest(model=spec, dataset=DATA, limits=LIMITS, cache=cache, **options))


# -- start checkpoints -------------------------------------------------------------------------------------------------
def test_a_local_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "mine", "gemma")
    found = start(str(folder), tmp_path / "cache")
    assert (found.folder, found.family, found.preset, found.id) == (folder, "gemma", "custom", str(folder))
    assert found.parameters == AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("value", "dtype"), [("nan", "float32"), ("inf", "bfloat16"), ("-inf", "float16")])
def test_weights_that_are_not_finite_are_named_before_anything_is_trained(
    value: str, dtype: str, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "mine", "qwen")
    file = folder / "model.safetensors"
    weights = {name: tensor.to(getattr(torch, dtype)) for name, tensor in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    assert start(str(folder), tmp_path / "cache").parameters
    weights["model.norm.weight"][3] = float(value)
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(HarnessError, match=r"got 1 non-finite weights .* of 128 in model.norm.weight of model.safeten"):
        start(str(folder), tmp_path / "cache")


def test_a_named_start_takes_the_place_of_the_sft_stage(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tuned", "qwen")
    found = start("qwen", tmp_path / "cache", preset="paper", start=str(folder))
    assert (found.folder, found.preset, found.id) == (folder, "paper", str(folder))


def test_a_start_of_another_family_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tuned", "mistral")
    with pytest.raises(HarnessError, match="a 'mistral' model, expected a qwen checkpoint"):
        start("qwen", tmp_path / "cache", start=str(folder))


def test_fine_tuning_that_is_asked_for_is_cached_by_content(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "mine", "qwen")
    options: dict[str, Any] = {"sft": True, "recipe": Recipe(learning_rate=1e-3, batch_size=4)}
    first = start(str(folder), tmp_path / "cache", **options)
    lines: list[str] = []
    assert start(str(folder), tmp_path / "cache", progress=lines.append, **options) == first
    assert "reused" in lines[-1]
    assert first.fingerprint != start(str(folder), tmp_path / "cache").fingerprint
    before, after = (load_model(place).model.norm.weight for place in (folder, first.folder))
    assert not torch.equal(before, after)
    assert load_tokenizer(first.folder).chat_template == CHATML


def test_a_family_under_paper_is_fetched_and_fine_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, **options: Any) -> str:
        asked.append(name)
        return str(checkpoint(tmp_path / "0123456789abcdef", "mistral", template=False))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = start("mistral", tmp_path / "cache", preset="paper", recipe=Recipe(batch_size=4))
    assert asked == ["mistralai/Mistral-7B-v0.1"]
    assert (found.preset, found.id, found.revision) == ("paper", asked[0], "0123456789abcdef")
    assert load_tokenizer(found.folder).chat_template == FAMILIES["mistral"].chat_template
    assert next(load_model(found.folder, "bfloat16").parameters()).dtype == torch.bfloat16


def test_an_unknown_name_is_told_what_may_stand_there(tmp_path: Path) -> None:
    with pytest.raises(
        HarnessError,
        match=r"got model 'qwenn', expected qwen, gemma, mistral, llama, smollm2, or a hub .* or a .gguf",
    ):
        start("qwenn", tmp_path)


def test_a_hub_that_cannot_be_reached_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **options: Any) -> str:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(HarnessError, match=r"'org/name' could not be fetched .* check the network .*hf download"):
        start("org/name", tmp_path)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"expected a config.json and \*.safetensors"):
        start(str(tmp_path), tmp_path / "cache")


def edit_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_a_model_with_code_of_its_own_names_the_flag(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "mine", "qwen")
    edit_config(folder, model_type="unheard-of", auto_map={"AutoModelForCausalLM": "modeling.Mine"})
    with pytest.raises(HarnessError, match="--trust-remote-code"):
        start(str(folder), tmp_path / "cache")


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
    ],
)
def test_what_is_no_causal_language_model_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = checkpoint(tmp_path / "mine", "qwen")
    edit_config(folder, **config)
    with pytest.raises(HarnessError, match=rf"{config['architectures'][0]}\), expected a causal language model"):
        start(str(folder), tmp_path / "cache")


# -- models and tokenizers ---------------------------------------------------------------------------------------------
def test_a_loaded_model_has_no_dropout_and_no_cache(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "mine", "qwen", attention_dropout=0.3)
    model = load_model(folder).train()
    assert model.config.attention_dropout == 0.0
    assert model.config.use_cache is False
    assert torch.equal(model(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize(("family", "attention"), [("gemma", "eager"), ("qwen", "sdpa")])
def test_attention_keeps_soft_capping(tmp_path: Path, family: str, attention: str) -> None:
    model = load_model(checkpoint(tmp_path / "mine", family))
    assert model.config._attn_implementation == attention


def test_a_tokenizer_without_a_template_gets_its_familys(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "mine", "gemma", template=False)
    assert load_tokenizer(folder).chat_template == FAMILIES["gemma"].chat_template


def test_a_template_that_nobody_knows_is_asked_for(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "mine", "qwen", template=False)
    edit_config(folder, model_type="llama")
    with pytest.raises(HarnessError, match=r"no chat template and none is known for a 'llama' model"):
        load_tokenizer(folder)


# -- weights back on disk ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", list(FAMILIES))
def test_saved_weights_read_back_give_the_same_logits(tmp_path: Path, family: str) -> None:
    source = checkpoint(tmp_path / "mine", family, attention_dropout=0.1)
    model = load_model(source)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_whole(model, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", attn_implementation=model.config._attn_implementation
    )
    assert torch.equal(logits(again), logits(model))
    assert json.loads((tmp_path / "out/config.json").read_text()) == json.loads((source / "config.json").read_text())
