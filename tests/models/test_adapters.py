"""Adapters: put on, written alone, merged onto what they were trained on; and in 4 bits what is scored is trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import real_layouts
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from harness.api import Dataset, HarnessError, Message, Pair
from harness.data.tokens import Limits
from harness.models.adapters import is_adapter, is_zero, require_targets, save_adapter
from harness.models.convert import load_plain, write_merged
from harness.models.families import FAMILIES
from harness.models.load import load_model, start_checkpoint
from harness.models.size import shape_of
from harness.models.start import StartRequest
from harness.models.weights import read_weights
from harness.planning.memory import kept_bytes, left_bytes
from harness.planning.run_file import make_run
from harness.run_folder.adapter_setting import AdapterSetting

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
PAIR = Pair(pair_id="0", prompt_id="0", context=(Message(role="user", content="Hi"),), chosen="Yes.", rejected="No.")
DATA = Dataset(name="small", train=(PAIR,), dev=(), test=())
NF4 = (
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
)  # fmt: skip
"""Quantiles of a normal distribution, of the paper's appendix E."""


def checkpoint(folder: Path, family: str = "qwen", **config: Any) -> Path:
    torch.manual_seed(0)
    settings = FAMILIES[family].nano_config(512)
    for name, value in config.items():
        setattr(settings, name, value)
    AutoModelForCausalLM.from_config(settings).save_pretrained(folder)
    return folder


def moved(model: Any, std: float = 0.05) -> Any:
    """Return the model as a training might leave its adapter."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=std)
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def adapted(model: Any) -> set[str]:
    names = [name.split(".lora_A")[0] for name in model.state_dict() if "lora_A" in name]
    return {name.removeprefix("base_model.model.") for name in names}


# -- put on ------------------------------------------------------------------------------------------------------------
def test_without_peft_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path / "mine")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(HarnessError, match=r"pip install 'preference-harness\[peft\]'"):
        load_model(folder, adapter="lora")


def test_lora_covers_every_linear_layer_but_the_head_and_follows_the_seed(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "mine", "mistral")
    models = [load_model(folder, adapter="lora", seed=seed) for seed in (0, 0, 1)]
    expected = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.rpartition(".")[2] for name in adapted(models[0])} == expected
    first = [next(p for n, p in model.named_parameters() if "lora_A" in n) for model in models]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_rank_alpha_and_targets_are_those_that_were_asked_for(tmp_path: Path) -> None:
    model: Any = load_model(checkpoint(tmp_path / "mine"), adapter="lora:r=3,alpha=12,targets=q_proj+0.mlp.up_proj")
    layers = range(model.config.num_hidden_layers)
    expected = {f"model.layers.{layer}.self_attn.q_proj" for layer in layers} | {"model.layers.0.mlp.up_proj"}
    assert adapted(model) == expected
    setting = AdapterSetting.parse("lora:targets=q_proj+0.mlp.up_proj")
    assert setting is not None
    assert {name for name in read_weights(tmp_path / "mine").linear if setting.matches(name)} == expected
    sizes = {p.shape for n, p in model.named_parameters() if "lora_A" in n}
    assert sizes == {(3, 128)}
    base, delta = logits(model), {}
    for name, layer in moved(model).named_modules():
        if hasattr(layer, "lora_A"):
            delta[name] = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * 12 / 3  # alpha / r
    plain = load_model(tmp_path / "mine")
    with torch.no_grad():
        for name, product in delta.items():
            plain.get_submodule(name.removeprefix("base_model.model.")).weight += product
    torch.testing.assert_close(logits(model), logits(plain), atol=1e-5, rtol=1e-5)
    assert (logits(model) - base).abs().max() > 0.01


@pytest.mark.parametrize("target", ["proj", "lm_head", "embed_tokens", "c_attn", "q_proj.weight", "norm"])
def test_a_target_that_is_no_linear_layer_below_the_head_is_refused_with_those_there_are(
    target: str, tmp_path: Path
) -> None:
    weights = read_weights(checkpoint(tmp_path / "mine"))
    with pytest.raises(
        HarnessError, match=rf"targets={target}, expected .*: down_proj, gate_proj, k_proj, o_proj, q_p"
    ):
        require_targets(AdapterSetting(targets=("q_proj", target)), weights, "mine")
    require_targets(AdapterSetting(targets=("q_proj", "self_attn.o_proj")), weights, "mine")


# -- written alone, and merged -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", list(FAMILIES))
def test_an_adapter_merged_onto_its_start_gives_the_logits_that_were_trained(family: str, tmp_path: Path) -> None:
    start = checkpoint(tmp_path / "mine", family)
    model = load_model(start, adapter="lora:r=4")
    base = logits(model)
    trained = logits(moved(model))
    assert (trained - base).abs().max() > 0.05
    save_adapter(model, tmp_path / "adapter")
    write_merged(start, tmp_path / "adapter", tmp_path / "merged", "float32")
    torch.testing.assert_close(logits(load_model(tmp_path / "merged")), trained, atol=1e-5, rtol=1e-5)
    assert torch.equal(logits(model), trained)


def test_in_bf16_it_is_added_in_fp32_to_the_weights_that_were_trained_on(tmp_path: Path) -> None:
    start = checkpoint(tmp_path / "mine")
    save_adapter(moved(load_model(start, "bfloat16", adapter="lora:r=4"), std=0.003), tmp_path / "adapter")
    write_merged(start, tmp_path / "adapter", tmp_path / "merged", "bfloat16")
    full, adapter, merged = (
        load_file(tmp_path / name) for name in ("mine/model.safetensors", "adapter/adapter_model.safetensors",
                                                "merged/model.safetensors")
    )  # fmt: skip
    for layer in ("self_attn.v_proj", "mlp.down_proj"):
        one, other = (adapter[f"base_model.model.model.layers.1.{layer}.lora_{side}.weight"] for side in "BA")
        assert one.dtype == torch.float32
        weight = full[f"model.layers.1.{layer}.weight"].bfloat16().float()
        assert torch.equal(merged[f"model.layers.1.{layer}.weight"], (weight + 2 * (one @ other)).bfloat16())


def test_what_is_written_is_the_adapter_alone_and_says_whether_it_adds_anything(tmp_path: Path) -> None:
    start = checkpoint(tmp_path / "mine")
    model = load_model(start, adapter="lora:r=2")
    save_adapter(model, tmp_path / "adapter")
    files = sorted(path.name for path in (tmp_path / "adapter").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    assert is_adapter(tmp_path / "adapter")
    assert not is_adapter(start)
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (2, 4, str(start))
    assert is_zero(tmp_path / "adapter")
    save_adapter(moved(model, std=1e-6), tmp_path / "adapter")
    assert not is_zero(tmp_path / "adapter")


def test_the_plan_counts_the_bytes_of_an_adapter_as_they_are_on_disk(tmp_path: Path) -> None:
    start = checkpoint(tmp_path / "mine", "gemma")
    shape = shape_of(str(start))
    assert shape is not None
    for text in ("lora:r=4", "lora:r=2,targets=q_proj+mlp.down_proj"):
        save_adapter(load_model(start, adapter=text), tmp_path / text)
        tensors = load_file(tmp_path / text / "adapter_model.safetensors").values()
        run = make_run({"adapter": text, "dtype": "bfloat16"})
        assert left_bytes(run, shape) == sum(tensor.nbytes for tensor in tensors)


# -- in 4 bits ---------------------------------------------------------------------------------------------------------
def asked(folder: Path, cache: Path, dtype: str) -> StartRequest:
    limits = Limits(max_length=64, max_prompt=32)
    return StartRequest(model=str(folder), preset="nano", dataset=DATA, limits=limits, cache=cache, nf4=dtype)


def by_hand(weight: torch.Tensor) -> torch.Tensor:
    """Return what NF4 leaves of a weight: the nearest of 16 levels times the largest of each 64, in a row."""
    blocks = weight.float().reshape(-1, 64)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    levels = torch.tensor(NF4)
    nearest = ((blocks / largest)[..., None] - levels).abs().argmin(-1)
    return (levels[nearest] * largest).reshape(weight.shape)


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is an extra")
    return real_layouts.make("qwen-3", tmp_path_factory.mktemp("brought") / "mine")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_start_in_4_bits_has_the_weights_that_nf4_leaves_by_hand(brought: Path, dtype: str, tmp_path: Path) -> None:
    found = start_checkpoint(asked(brought, tmp_path / "cache", dtype))
    assert found.quantised == "NF4"
    before, after = (load_plain(folder, dtype, False) for folder in (brought, found.folder))
    linear = read_weights(brought).linear
    in_4_bits = [name for name in linear if before.get_submodule(name).in_features % 64 == 0]
    assert in_4_bits
    for name, weight in before.state_dict().items():
        here = after.state_dict()[name]
        if name.removesuffix(".weight") in in_4_bits:
            expected = by_hand(weight).to(weight.dtype)
            torch.testing.assert_close(here, expected, atol=1e-6, rtol=1e-2 if dtype == "bfloat16" else 1e-5)
            assert not torch.equal(here, weight)
        else:
            assert torch.equal(here, weight)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_trained_on_4_bits_is_what_is_scored(brought: Path, dtype: str, tmp_path: Path) -> None:
    start = start_checkpoint(asked(brought, tmp_path / "cache", dtype)).folder
    model = load_model(start, dtype, adapter="qlora:r=4")
    weights = [parameter for name, parameter in model.named_parameters() if ".q_proj.base_layer" in name]
    assert {weight.dtype for weight in weights} == {torch.uint8}  # two to a byte
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == "float32" else {"atol": 0.25, "rtol": 0.05}
    torch.testing.assert_close(logits(model), logits(load_model(start, dtype)), **close)
    trained = logits(moved(model, std=0.1))
    save_adapter(model, tmp_path / "adapter")
    write_merged(start, tmp_path / "adapter", tmp_path / "merged", dtype)
    torch.testing.assert_close(logits(load_model(tmp_path / "merged", dtype)), trained, **close)
    assert (trained - logits(load_model(start, dtype))).abs().max() > 1
    assert (trained - logits(load_model(brought, dtype))).abs().max() > 1


def test_weights_that_come_back_otherwise_from_4_bits_are_refused(
    brought: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.models.nf4._of_four_bits", lambda weight: weight)
    with pytest.raises(HarnessError, match=r"reads other weights of .*, expected the same, which are scored"):
        start_checkpoint(asked(brought, tmp_path / "cache", "float32"))
    assert not list((tmp_path / "cache").glob("*/start.json"))


def test_the_plan_counts_the_bytes_of_4_bits_as_they_are_in_memory(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is an extra")
    start = checkpoint(tmp_path / "mine", "gemma")  # all inputs are multiples of 64
    shape = shape_of(str(start))
    assert shape is not None
    held = [p for name, p in load_model(start, adapter="qlora").named_parameters() if ".lora_" not in name]
    scales = sum(p.quant_state.absmax.nbytes for p in held if p.dtype == torch.uint8)
    assert kept_bytes(make_run({"adapter": "qlora"}), shape) == sum(p.nbytes for p in held) + scales
