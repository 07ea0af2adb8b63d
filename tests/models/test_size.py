"""How large a model is before it is loaded, against the models of transformers and files written by others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from models_as_gguf import HEADS, INNER, LAYERS, VOCABULARY, WIDTH, write_gguf

from harness.api import HarnessError
from harness.import_guard import guard_imports
from harness.models.families import FAMILIES
from harness.models.size import NAMED_SHAPES, shape_of
from harness.planning.model_shape import ModelShape

guard_imports()


def checkpoint(folder: Path, config: Mapping[str, object], *weights: tuple[int, ...]) -> Path:
    """Write the config and the header of the weights of a checkpoint."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    names = {f"w{k}": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for k, shape in enumerate(weights)}
    header = json.dumps(names).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_has_the_sizes_of_its_layers(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(FAMILIES[family].nano_config(300))
    model.save_pretrained(tmp_path)
    attention, feed_forward = model.model.layers[0].self_attn, model.model.layers[0].mlp
    assert shape_of(str(tmp_path)) == ModelShape(
        parameters=model.num_parameters(),
        layers=len(model.model.layers),
        width=model.get_input_embeddings().embedding_dim,
        inner=feed_forward.up_proj.out_features,
        heads=model.config.num_attention_heads,
        query_width=attention.q_proj.out_features,
        key_width=attention.k_proj.out_features,
        vocabulary=300,
        window=32_768,
    )


def test_the_options_of_gpt2_have_names_of_their_own(tmp_path: Path) -> None:
    config = {"n_layer": 3, "n_embd": 48, "n_head": 4, "n_positions": 256, "vocab_size": 99}
    assert shape_of(str(checkpoint(tmp_path / "m", config, (1000, 7)))) == ModelShape(
        parameters=7000, layers=3, width=48, inner=192, heads=4, query_width=48, key_width=48, vocabulary=99, window=256
    )


def test_a_config_without_sizes_gets_usual_ones_and_keeps_its_window(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m", {"model_type": "new", "n_positions": 512}, (124_000, 1000))
    shape = shape_of(str(folder))
    assert shape is not None
    assert (shape.parameters, shape.window) == (124_000_000, 512)
    assert 12 * shape.layers * shape.width**2 == pytest.approx(124e6, rel=0.1)


def test_an_adapter_is_as_large_as_the_model_that_it_is_for(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", {"n_positions": 64}, (30_000, 1000))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base)})
    )
    assert shape_of(str(adapter)) == shape_of(str(base))


def test_an_adapter_whose_settings_are_no_json_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{not json")
    with pytest.raises(HarnessError, match=r"adapter_config\.json cannot be read"):
        shape_of(str(tmp_path))


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m", {}, (2, 2))
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(HarnessError, match=r"model\.safetensors cannot be read"):
        shape_of(str(folder))


def test_a_gguf_file_has_the_sizes_that_it_was_written_with(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    file = tmp_path / "tiny.gguf"
    write_gguf(file)
    shape = shape_of(str(file))
    assert shape is not None
    assert (shape.layers, shape.width, shape.inner, shape.heads) == (LAYERS, WIDTH, INNER, HEADS)
    assert (shape.query_width, shape.key_width, shape.vocabulary) == (WIDTH, WIDTH // HEADS, VOCABULARY)
    layer = 2 * WIDTH + 2 * WIDTH * WIDTH + 2 * (WIDTH // HEADS) * WIDTH + 3 * INNER * WIDTH
    assert shape.parameters == VOCABULARY * WIDTH + WIDTH + LAYERS * layer


def test_the_named_checkpoints_are_as_large_as_their_model_cards_say() -> None:
    billions = {name: round(shape.parameters / 1e9, 2) for name, shape in NAMED_SHAPES.items()}
    assert billions == {"qwen": 0.49, "gemma": 2.61, "mistral": 7.24, "llama": 8.03, "smollm2": 0.13}


def test_a_model_on_the_hub_is_as_large_as_the_hub_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = SimpleNamespace(parameter_count={"BF16": 6000, "F32": 1000})
    folder = checkpoint(tmp_path / "m", {"n_positions": 64})
    monkeypatch.setattr("harness.models.size.why_no_answer", lambda name, seconds, revision: "")
    monkeypatch.setattr("huggingface_hub.HfApi.get_safetensors_metadata", lambda self, name, revision: told)
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda name, file, revision, etag_timeout: str(folder / file)
    )
    shape = shape_of("org/told")
    assert shape is not None
    assert (shape.parameters, shape.window) == (7000, 64)


def test_a_model_on_a_hub_that_does_not_answer_has_no_size_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.models.size.why_no_answer", lambda name, seconds, revision: "offline")
    assert shape_of("org/unknown-7b") is None
