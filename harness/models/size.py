"""How large a model is, before it is loaded: by its files, those in the cache of the hub, or by the hub. No torch."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.api import HarnessError
from harness.models.folders import ADAPTER, base_of, is_gguf, local
from harness.models.hub import HUB_ID, count_parameters, why_no_answer
from harness.models.window import NAMES as WINDOW
from harness.planning.model_shape import INNER, ModelShape
from harness.planning.presets import SMOLLM2

NAMED_SHAPES = {
    "qwen": ModelShape(
        parameters=494_032_768, layers=24, width=896, inner=4864, heads=14, query_width=896, key_width=128,
        vocabulary=151_936, window=32_768,
    ),
    "gemma": ModelShape(
        parameters=2_614_341_888, layers=26, width=2304, inner=9216, heads=8, query_width=2048, key_width=1024,
        vocabulary=256_000, window=8192,
    ),
    "mistral": ModelShape(
        parameters=7_241_732_096, layers=32, width=4096, inner=14_336, heads=32, query_width=4096, key_width=1024,
        vocabulary=32_000, window=32_768,
    ),
    "llama": ModelShape(
        parameters=8_030_261_248, layers=32, width=4096, inner=14_336, heads=32, query_width=4096, key_width=1024,
        vocabulary=128_256, window=8192,
    ),
    SMOLLM2: ModelShape(
        parameters=134_515_008, layers=30, width=576, inner=1536, heads=9, query_width=576, key_width=192,
        vocabulary=49_152, window=8192,
    ),
}  # fmt: skip  # with one option per line the differences would not show
"""Of the checkpoints that names stand for, from their configs."""
# what a size is called in config.json: by most, by GPT-2 and its like, by OPT
LAYERS = ("num_hidden_layers", "n_layer", "n_layers")
WIDTH = ("hidden_size", "n_embd", "d_model")
INNER_WIDTH = ("intermediate_size", "n_inner", "ffn_dim")
HEADS = ("num_attention_heads", "n_head", "n_heads")
HUB_WAIT = 10.0
"""Seconds that the hub has to say how large a model is."""


@cache
def shape_of(name: str) -> ModelShape | None:
    """Return the sizes of a model by its name, hub id, folder or GGUF file; None where they are not known yet.

    Raises `HarnessError` where a file of it cannot be read.
    """
    if name in NAMED_SHAPES:
        return NAMED_SHAPES[name]
    path = Path(name).expanduser()
    if is_gguf(name):
        return _of_gguf(path) if path.is_file() and find_spec("gguf") else None
    return _of_folder(path) if path.is_dir() else _of_hub(name)


def _of_folder(folder: Path) -> ModelShape | None:
    if (folder / ADAPTER).is_file():  # its weights are those of the adapter alone
        base, revision = base_of(folder, str(folder))
        return shape_of(f"{base}@{revision}" if revision and local(base) is None else base)
    config = folder / "config.json"
    if not config.is_file():
        return None
    return _of_config(config, count_parameters(folder))


def _of_config(file: Path, parameters: int) -> ModelShape | None:
    """Return the sizes that a config.json has; usual ones for so many parameters where it does not say them."""
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        config = config.get("text_config") or config  # of models that see pictures too
    except (ValueError, AttributeError) as error:
        raise HarnessError(f"{file} cannot be read ({error}), expected JSON; fetch or write it anew") from None

    def first(names: tuple[str, ...]) -> int | None:
        return next((config[name] for name in names if isinstance(config.get(name), int)), None)

    layers, width, heads, vocabulary = first(LAYERS), first(WIDTH), first(HEADS), first(("vocab_size",))
    if not parameters:
        return None
    if not (layers and width and heads and vocabulary):
        return ModelShape.of_parameters(parameters, first(WINDOW))
    head_width = first(("head_dim",)) or width // heads
    return ModelShape(
        parameters=parameters,
        layers=layers,
        width=width,
        inner=first(INNER_WIDTH) or INNER * width,
        heads=heads,
        query_width=heads * head_width,
        key_width=(first(("num_key_value_heads",)) or heads) * head_width,
        vocabulary=vocabulary,
        window=first(WINDOW),
    )


def _of_gguf(file: Path) -> ModelShape | None:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
        architecture = reader.fields["general.architecture"].contents()

        def said(name: str) -> int | None:
            field = reader.fields.get(f"{architecture}.{name}")
            return None if field is None else int(field.contents())

        layers, width, heads = said("block_count"), said("embedding_length"), said("attention.head_count")
        if not (layers and width and heads):
            return ModelShape.of_parameters(parameters, said("context_length"))
        head_width = said("attention.key_length") or width // heads
        return ModelShape(
            parameters=parameters,
            layers=layers,
            width=width,
            inner=said("feed_forward_length") or INNER * width,
            heads=heads,
            query_width=heads * head_width,
            key_width=(said("attention.head_count_kv") or heads) * head_width,
            vocabulary=len(reader.fields["tokenizer.ggml.tokens"].data),
            window=said("context_length"),
        )
    except Exception:  # whatever the bytes make it stumble over is told when the model is read
        return None


def _of_hub(name: str) -> ModelShape | None:
    """Return the sizes of a model in the cache of the hub, or of one that the hub tells of."""
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    asked = HUB_ID.fullmatch(name)
    if asked is None:
        return None
    name, revision = asked["repo"], asked["revision"]
    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(config, str) and (parameters := count_parameters(Path(config).parent)):
        return _of_config(Path(config), parameters)
    if why_no_answer(name, HUB_WAIT, revision):
        return None
    try:
        headers = HfApi().get_safetensors_metadata(name, revision=revision)
        parameters = sum(headers.parameter_count.values())
        file = Path(hf_hub_download(name, "config.json", revision=revision, etag_timeout=HUB_WAIT))
    except Exception:  # gated, gone or cut off, each with its own type: told when the model is fetched
        return None
    return _of_config(file, parameters)
