"""What people have on disk, as `--models DIR`: taken, or refused in one line that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import model_folders
import pytest
import real_layouts
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.api import Dataset, HarnessError, Message, Pair
from harness.data.tokens import Limits
from harness.execute.preflight import check_model
from harness.models.folders import content_name
from harness.models.load import start_checkpoint
from harness.models.start import StartRequest

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
PAIR = Pair(pair_id="0", prompt_id="0", context=(Message(role="user", content="Hi"),), chosen="Yes.", rejected="No.")
DATA = Dataset(name="small", train=(PAIR,), dev=(), test=())


def start(folder: Path, cache: Path, lines: list[str] | None = None) -> Any:
    limits = Limits(max_length=64, max_prompt=32)
    said = [] if lines is None else lines
    return start_checkpoint(
        StartRequest(model=str(folder), preset="nano", dataset=DATA, limits=limits, cache=cache, progress=said.append)
    )


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(IDS).logits


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_layouts.make("llama-2", tmp_path_factory.mktemp("base") / "mine")


@pytest.fixture
def mine(base: Path, tmp_path: Path) -> Path:
    """A copy of the model, to be changed."""
    return Path(shutil.copytree(base, tmp_path / "mine"))


def change(folder: Path, file: str = "config.json", **values: Any) -> None:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | values))


# -- adapters and pickled weights -------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by peft
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_is_its_base_with_what_peft_adds(options: dict[str, Any], base: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    folder = model_folders.adapter(base, tmp_path / "lora", **options)
    found = start(folder, tmp_path / "cache")

    with torch.no_grad():
        expected = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()(IDS).logits
    torch.testing.assert_close(logits(found.folder), expected, atol=1e-4, rtol=1e-4)
    assert (expected - logits(base)).abs().max() > 0.1
    assert (found.id, found.base, found.family) == (str(folder), str(base), "llama")
    assert (
        AutoTokenizer.from_pretrained(found.folder).chat_template == AutoTokenizer.from_pretrained(base).chat_template
    )


def test_an_adapter_is_merged_once_and_anew_where_it_or_its_base_is_another(mine: Path, tmp_path: Path) -> None:
    folder = model_folders.adapter(mine, tmp_path / "lora")
    first, lines = start(folder, tmp_path / "cache"), list[str]()
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert start(copy, tmp_path / "cache", lines).folder == first.folder
    assert "reused" in lines[0]
    again = start(model_folders.adapter(mine, tmp_path / "other", seed=1), tmp_path / "cache")
    real_layouts.make("llama-2", mine, seed=1)
    assert len({first.fingerprint, again.fingerprint, start(folder, tmp_path / "cache").fingerprint}) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_model_name_or_path": "/gone/base"}, "a LoRA adapter of '/gone/base', .* could not be had"),
        ({"base_model_name_or_path": None}, "does not name its base, expected base_model_name_or_path"),
        ({"peft_type": "PREFIX_TUNING"}, "an adapter of type PREFIX_TUNING .*, expected LORA"),
        ({"task_type": "SEQ_CLS"}, "for the task SEQ_CLS, expected LORA for CAUSAL_LM"),
        ({"r": 7}, r"a LoRA adapter of .* cannot be read"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_one_line(
    settings: dict[str, Any], said: str, base: Path, tmp_path: Path
) -> None:
    folder = model_folders.adapter(base, tmp_path / "lora")
    change(folder, "adapter_config.json", **settings)
    with pytest.raises(HarnessError, match=said) as error:
        start(folder, tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_an_adapter_whose_base_is_gone_is_refused_before_a_run_starts(mine: Path, tmp_path: Path) -> None:
    folder = model_folders.adapter(mine, tmp_path / "lora")
    check_model(str(folder))
    shutil.rmtree(mine)
    with pytest.raises(HarnessError, match=r"a LoRA adapter of '.*/mine', which .* is not here; bring it"):
        check_model(str(folder))


def test_pickled_weights_are_read_as_weights_alone_and_kept_as_safetensors(mine: Path, tmp_path: Path) -> None:
    expected = logits(mine)
    found = start(model_folders.pickled(mine), tmp_path / "cache")
    assert torch.equal(logits(found.folder), expected)
    assert list(found.folder.glob("*.safetensors"))

    class Code:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model.norm.weight": Code()}, mine / "pytorch_model.bin")
    with pytest.raises(HarnessError, match=r"whose weights are pickled .* cannot be read"):
        start(mine, tmp_path / "cache")
    assert not (tmp_path / "ran").exists()


# -- Trainer's folders, and names in files ----------------------------------------------------------------------------
def test_a_checkpoint_of_the_trainer_is_a_model_and_the_folder_of_several_names_them(
    base: Path, tmp_path: Path
) -> None:
    for step in ("checkpoint-500", "checkpoint-1000"):
        folder = Path(shutil.copytree(base, tmp_path / "out" / step))
        for name in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth"):
            torch.save({}, folder / name)
        (folder / "trainer_state.json").write_text("{}")
    check_model(str(tmp_path / "out" / "checkpoint-500"))
    assert torch.equal(logits(start(tmp_path / "out" / "checkpoint-500", tmp_path / "cache").folder), logits(base))
    with pytest.raises(HarnessError, match=r"holds checkpoint-500, checkpoint-1000 and no .* as .*checkpoint-1000$"):
        check_model(str(tmp_path / "out"))
    shutil.copytree(base, tmp_path / "out", dirs_exist_ok=True)
    check_model(str(tmp_path / "out"))  # its own model


@pytest.mark.parametrize("layout", ["llama-2", "gpt-2"])
def test_parameters_are_those_of_the_live_model_whatever_else_is_in_the_files(layout: str, tmp_path: Path) -> None:
    folder = real_layouts.make(layout, tmp_path / "mine")
    assert start(folder, tmp_path / "cache").parameters == AutoModelForCausalLM.from_pretrained(folder).num_parameters()


def test_tensors_that_the_architecture_does_not_have_are_told(mine: Path, tmp_path: Path) -> None:
    real_layouts.add_to_file(mine, {"v_head.summary.weight": torch.ones(1, 64)})
    lines: list[str] = []
    start(mine, tmp_path / "cache", lines)
    assert any("leaves out 1 tensors" in line and "v_head.summary.weight" in line for line in lines)


def test_gpt_2_without_a_chat_template_is_told_what_to_add(tmp_path: Path) -> None:
    folder = real_layouts.gpt_2(tmp_path / "mine")
    with pytest.raises(HarnessError, match="has no chat template and none is known for a 'gpt2' model"):
        start(folder, tmp_path / "cache")


# -- refused before anything is trained -------------------------------------------------------------------------------
def test_a_tokenizer_larger_than_the_embedding_is_refused_with_both_sizes(mine: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(mine)
    rows = len(tokenizer)
    tokenizer.add_tokens(["<extra-1>", "<extra-2>"])
    tokenizer.save_pretrained(mine)
    with pytest.raises(HarnessError, match=rf"ids up to {rows + 1} beside an embedding of {rows} rows"):
        start(mine, tmp_path / "cache")


def test_a_checkpoint_without_all_of_its_weights_is_refused(mine: Path, tmp_path: Path) -> None:
    weights = load_file(mine / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, mine / "model.safetensors", {"format": "pt"})
    with pytest.raises(HarnessError, match=r"lacks 1 of 21 weights \(lm_head.weight\)"):
        start(mine, tmp_path / "cache")
    change(mine, intermediate_size=128)
    with pytest.raises(HarnessError, match=r"lacks 1 of|has in other shapes than its config says 6 of 21"):
        start(mine, tmp_path / "cache")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, r"LlamaForSequenceClassification\), expected a causal"),
        (
            {"model_type": "t5", "is_encoder_decoder": True},
            r"an encoder-decoder, LlamaForCausalLM\), expected a causal",
        ),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quantised \(gptq\), expected plain ones"),
    ],
)
def test_other_kinds_of_models_are_refused_before_a_run_starts(config: dict[str, Any], said: str, mine: Path) -> None:
    change(mine, **config)
    with pytest.raises(HarnessError, match=said):
        check_model(str(mine))


def test_folders_that_are_no_model_say_what_they_are(mine: Path, base: Path, tmp_path: Path) -> None:
    both = model_folders.adapter(base, mine)
    with pytest.raises(HarnessError, match="holds a whole model and a LoRA adapter"):
        check_model(str(both))
    (sharded := tmp_path / "deepspeed").mkdir()
    (sharded / "global_step500").mkdir()
    with pytest.raises(HarnessError, match=r"shards of a training on several devices \(global_step500\)"):
        check_model(str(sharded))
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(HarnessError, match=r"has no config.json and \*.safetensors"):
        check_model(str(empty))


# -- what a local model is called -------------------------------------------------------------------------------------
def test_a_name_is_of_the_content_alone(mine: Path, base: Path, tmp_path: Path) -> None:
    name = content_name(base)
    assert name == content_name(mine)
    assert name.startswith("llama@")
    (mine / "README.md").write_text("Mine.")
    torch.save({}, mine / "optimizer.pt")
    assert content_name(mine) == name
    for changed in (lambda: change(mine, rope_theta=5.0), lambda: real_layouts.make("llama-2", mine, seed=1)):
        changed()
        assert content_name(mine) != name
        shutil.rmtree(mine)
        shutil.copytree(base, mine)
