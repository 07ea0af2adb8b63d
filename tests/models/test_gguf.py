"""GGUF files as models: what is written of them computes what the file says, and the cache knows them by content."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_as_gguf import VOCABULARY, weights_of, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.api import Dataset, HarnessError, Message, Pair
from harness.data.tokens import Limits
from harness.execute.preflight import check_model
from harness.models.load import load_model, load_tokenizer, start_checkpoint
from harness.models.start import StartRequest, fingerprint
from harness.run_folder.one_at_a_time import LOCKS

pytest.importorskip("gguf", reason="gguf is an extra")
PAIR = Pair(
    pair_id="0", prompt_id="0", context=(Message(role="user", content="Hi"),), chosen="There.", rejected="Here."
)
DATA = Dataset(name="small", train=(PAIR,), dev=(), test=())


def start(name: str, cache: Path, **options: Any) -> Any:
    limits = Limits(max_length=64, max_prompt=32)
    return start_checkpoint(
        StartRequest(**{"model": name, "preset": "nano", "dataset": DATA, "limits": limits, "cache": cache} | options)
    )


@pytest.mark.parametrize(("kind", "said"), [("F32", ""), ("Q4_1", "Q4_1")])
def test_a_file_is_a_model_with_the_logits_of_its_weights(tmp_path: Path, kind: str, said: str) -> None:
    file, weights = write_gguf(tmp_path / "mine.gguf", kind=kind)
    found = start(str(file), tmp_path / "cache")
    assert (found.id, found.preset, found.family, found.quantised) == (str(file), "custom", "llama", said)
    assert len(found.revision) == 64
    assert found.parameters == sum(weight.size for weight in weights.values())
    assert found.fingerprint == fingerprint(found.folder)
    model = load_model(found.folder)
    assert "quantization_config" not in json.loads((found.folder / "config.json").read_text())
    assert next(model.parameters()).dtype == torch.float32
    expected = AutoModelForCausalLM.from_config(model.config)
    expected.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights_of(weights).items()}, strict=0)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids).logits, expected.eval()(ids).logits)


def test_the_tokenizer_has_the_template_of_the_file_and_adds_nothing(tmp_path: Path) -> None:
    file, _ = write_gguf(tmp_path / "mine.gguf")
    tokenizer = load_tokenizer(start(str(file), tmp_path / "cache").folder)
    turns = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer) == VOCABULARY


def test_text_is_split_as_the_model_was_trained_where_that_is_not_like_gpt2(tmp_path: Path) -> None:
    file, _ = write_gguf(tmp_path / "mine.gguf")
    tokenizer = load_tokenizer(start(str(file), tmp_path / "cache").folder)
    # spaces before a digit stay together: the digit is cut off first
    assert tokenizer.convert_ids_to_tokens(tokenizer("a  21").input_ids) == ["a", "ĠĠ", "2", "1"]


def test_one_content_is_made_once_wherever_it_lies_and_other_weights_are_another_checkpoint(tmp_path: Path) -> None:
    file, _ = write_gguf(tmp_path / "mine.gguf", kind="Q4_1")
    first = start(str(file), tmp_path / "cache")
    copy = Path(shutil.copy(file, tmp_path / "copy.GGUF"))
    lines: list[str] = []
    again = start(str(copy), tmp_path / "cache", progress=lines.append)
    assert "reused" in lines[0]
    assert "quantised to Q4_1" in lines[-1]
    assert (again.folder, again.quantised, again.id) == (first.folder, "Q4_1", str(copy))
    other, _ = write_gguf(tmp_path / "other.gguf", kind="Q4_1", seed=1)
    different = start(str(other), tmp_path / "cache")
    assert different.folder != first.folder
    assert different.fingerprint != first.fingerprint


def test_a_file_stands_in_for_the_start_of_a_family(tmp_path: Path) -> None:
    file, _ = write_gguf(tmp_path / "mine.gguf")
    found = start("llama", tmp_path / "cache", start=str(file))
    assert (found.id, found.family, found.preset) == (str(file), "llama", "custom")


def test_the_extra_is_named_where_the_reader_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = write_gguf(tmp_path / "mine.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    for asked in (lambda: check_model(str(file)), lambda: start(str(file), tmp_path / "cache")):
        with pytest.raises(HarnessError, match=r"needs gguf.*pip install 'preference-harness\[gguf\]'"):
            asked()


def test_what_is_not_there_or_no_gguf_is_told(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"--models got 'org/none.gguf', expected .*or a .gguf file"):
        check_model("org/none.gguf")
    with pytest.raises(HarnessError, match=r"got model 'none.gguf', expected a GGUF file there"):
        start("none.gguf", tmp_path / "cache")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(HarnessError, match=r"broken.gguf', whose GGUF file cannot be read \(.*\), expected one of"):
        start(str(broken), tmp_path / "cache")
    assert not [left for left in (tmp_path / "cache").iterdir() if left.is_dir() and left.name != LOCKS]


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    file, _ = write_gguf(tmp_path / "mine.gguf", change=lambda weights: weights["output_norm.weight"].fill(np.nan))
    with pytest.raises(HarnessError, match="non-finite weights"):
        start(str(file), tmp_path / "cache")


def test_the_written_tokenizer_reads_back_the_same(tmp_path: Path) -> None:
    file, _ = write_gguf(tmp_path / "mine.gguf")
    folder = start(str(file), tmp_path / "cache").folder
    one, other = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert one("Hi  42 there").input_ids == other("Hi  42 there").input_ids
    assert (one.eos_token, one.pad_token) == ("<|im_end|>", "<|im_end|>")
