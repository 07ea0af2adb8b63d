"""Tiny random models in the layouts of real ones: config, names in the weight files, tokenizer and chat template.

`make(layout, folder)` writes one as its authors published it. The tokenizers split text as the real ones do and are
trained on a few lines; the templates are those of the published checkpoints, their parts for tools left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from real_templates import CHATML, GPT_2, LLAMA_2, LLAMA_3, MISTRAL, PHI_3, QWEN_3

TEXTS = (
    "What is the capital of France? Paris is the capital of France, and it lies on the Seine.",
    "Name three rivers that cross Germany. The Rhine, the Elbe and the Danube cross Germany.",
    "You are a helpful assistant. Answer in one short sentence, and be honest where you do not know.",
    "def add(a, b):\n    return a + b\n\n# 12 + 30 = 42, and 2024 - 26 = 1998.",
)
VOCABULARY = 480
POSITIONS = 512

GPT_4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama-3 splits text; Qwen splits every digit off."""


# -- tokenizers --------------------------------------------------------------------------------------------------------
def _byte_level(specials: tuple[str, ...], pattern: str | None, **options: Any) -> Any:
    """Return a byte-level BPE tokenizer, as those of GPT-2, Llama-3 and Qwen."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*split, byte_level])
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    if bos := options.get("bos_token"):
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=None, special_tokens=[(bos, backend.token_to_id(bos))]
        )
    options |= {"additional_special_tokens": list(specials), "clean_up_tokenization_spaces": False}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **options)


def _sentencepiece(turn_tokens: tuple[str, ...] = (), *, rstrip: bool = False, **options: Any) -> Any:
    """Return a BPE tokenizer with `▁` for spaces and before every text, as those of Llama-2, Mistral and Phi-3."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<unk>", "<s>", "</s>"]
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(split=True)  # so that no token reaches over a space
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*specials, *bytes_],
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    # `Prepend` marks each text between two special tokens, the trap of this layout
    backend.pre_tokenizer = None
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made = json.loads(backend.to_str())
    made["added_tokens"] = [token for token in made["added_tokens"] if token["content"] in specials]  # bytes are plain
    made["model"]["byte_fallback"] = True
    backend = Tokenizer.from_str(json.dumps(made))
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False, rstrip=rstrip) for token in turn_tokens]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair=None, special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", unk_token="<unk>", clean_up_tokenization_spaces=False,
        **{"eos_token": "</s>", **options},
    )  # fmt: skip


def _llama_3_tokenizer() -> Any:
    specials = (
        "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>",
        "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
    )  # fmt: skip
    return _byte_level(
        specials, GPT_4, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>",
        pad_token="<|finetune_right_pad_id|>", chat_template=LLAMA_3,
    )  # fmt: skip


def _qwen_tokenizer(template: str) -> Any:
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = _byte_level(
        specials, GPT_4.replace("{1,3}", ""), eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template
    )
    if template == QWEN_3:
        tokenizer.add_tokens(["<think>", "</think>"])  # not special, as in the real one
    return tokenizer


# -- models ------------------------------------------------------------------------------------------------------------
def _sizes(tokenizer: Any, **changes: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,  # 32 wide: the smallest head that vLLM's attention takes on a CPU
        "num_key_value_heads": 1,
        "max_position_embeddings": POSITIONS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **changes,
    }


def _drawn(config: Any, seed: int) -> Any:
    """Return a model with weights so large that a wrong one shows in its log-probs."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 2:
                    parameter.normal_(std=0.15)
                elif name.endswith("weight"):
                    parameter.uniform_(0.5, 1.5)
                else:
                    parameter.normal_(std=0.1)
    return model


def _written(folder: Path, model: Any, tokenizer: Any, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    return folder


def add_to_file(folder: Path, further: Mapping[str, Any], rename: Callable[[str], str] = lambda name: name) -> None:
    """Put further tensors into the weight file, the names of the others changed by `rename`."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = {rename(name): tensor for name, tensor in load_file(file).items()}
    save_file({**weights, **further}, file, metadata={"format": "pt"})


def llama_3(folder: Path, seed: int = 0) -> Path:
    """Write a model like Llama-3.2: a template with today's date, a head that is tied."""
    from transformers import LlamaConfig

    tokenizer = _llama_3_tokenizer()
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256, "rope_theta": 500_000.0}  # fmt: skip
    config = LlamaConfig(**_sizes(tokenizer, head_dim=32, tie_word_embeddings=True, rope_parameters=rope))
    return _written(folder, _drawn(config, seed), tokenizer)


def llama_2(folder: Path, seed: int = 0) -> Path:
    """Write a model like Llama-2-chat: rotary buffers in the file, `[INST]` without tokens of its own."""
    import torch
    from transformers import LlamaConfig

    tokenizer = _sentencepiece(chat_template=LLAMA_2)
    config = LlamaConfig(**_sizes(tokenizer, num_key_value_heads=2, tie_word_embeddings=False))
    _written(folder, _drawn(config, seed), tokenizer)
    frequencies = 1.0 / 10_000.0 ** (torch.arange(0, 32, 2) / 32)
    add_to_file(folder, {f"model.layers.{n}.self_attn.rotary_emb.inv_freq": frequencies.clone() for n in range(2)})
    return folder


def qwen_3(folder: Path, seed: int = 0) -> Path:
    """Write a model like Qwen3: the last answer thinks, and heads wider than the model's width shared among them."""
    from transformers import Qwen3Config

    tokenizer = _qwen_tokenizer(QWEN_3)
    config = Qwen3Config(**_sizes(tokenizer, head_dim=64, tie_word_embeddings=True))
    return _written(folder, _drawn(config, seed), tokenizer)


def phi_3(folder: Path, seed: int = 0) -> Path:
    """Write a model like Phi-3-mini: a turn ends with one token and the conversation with another, fused matrices."""
    from transformers import Phi3Config

    turns = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
    tokenizer = _sentencepiece(
        turns, rstrip=True, eos_token="<|endoftext|>", pad_token="<|endoftext|>", chat_template=PHI_3
    )
    config = Phi3Config(**_sizes(tokenizer, tie_word_embeddings=False, original_max_position_embeddings=POSITIONS))
    return _written(folder, _drawn(config, seed), tokenizer)


def gpt_2(folder: Path, seed: int = 0, template: str | None = None) -> Path:
    """Write a model like GPT-2: old option names, no prefix of the weights' names, masks in the file, no template."""
    import torch
    from transformers import GPT2Config

    tokenizer = _byte_level(("<|endoftext|>",), None, eos_token="<|endoftext|>", chat_template=template)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=64, n_head=2, n_layer=2, n_positions=POSITIONS,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    _written(folder, _drawn(config, seed), tokenizer)
    mask = torch.ones(POSITIONS, POSITIONS).tril()[None, None]
    masks = {f"h.{n}.attn.bias": mask.clone() for n in range(2)}
    masks |= {f"h.{n}.attn.masked_bias": torch.tensor(-1e4) for n in range(2)}
    add_to_file(folder, masks, rename=lambda name: name.removeprefix("transformer."))
    return folder


def gpt_2_with_template(folder: Path, seed: int = 0) -> Path:
    """Write the same with a chat template beside it, as one adds it to use such a model here."""
    return gpt_2(folder, seed, template=GPT_2)


def mistral(folder: Path, seed: int = 0) -> Path:
    """Write a model like Mistral-7B-Instruct: turns must alternate, there is no system turn, attention has a window."""
    from transformers import MistralConfig

    tokenizer = _sentencepiece(chat_template=MISTRAL)
    config = MistralConfig(**_sizes(tokenizer, head_dim=32, tie_word_embeddings=False, sliding_window=32))
    return _written(folder, _drawn(config, seed), tokenizer)


def sharded(folder: Path, seed: int = 0) -> Path:
    """Write a model like Qwen2.5: a tied head, the weights in several files with an index."""
    from transformers import Qwen2Config

    tokenizer = _qwen_tokenizer(CHATML)
    config = Qwen2Config(**_sizes(tokenizer, tie_word_embeddings=True))
    return _written(folder, _drawn(config, seed), tokenizer, max_shard_size="100KB")


LAYOUTS: Mapping[str, Callable[..., Path]] = {
    "llama-3": llama_3,
    "llama-2": llama_2,
    "qwen-3": qwen_3,
    "phi-3": phi_3,
    "gpt-2": gpt_2_with_template,
    "mistral": mistral,
    "sharded": sharded,
}
"""By name; each has a chat template."""


def make(layout: str, folder: Path, seed: int = 0) -> Path:
    """Write the model of this layout into `folder` and return it."""
    from harness.import_guard import guard_imports

    guard_imports()
    return LAYOUTS[layout](folder, seed)


def narrow_heads(folder: Path) -> Path:
    """Write a model whose attention heads are 16 wide: too narrow for vLLM on a CPU."""
    from transformers import Qwen2Config

    tokenizer = _qwen_tokenizer(CHATML)
    config = Qwen2Config(**_sizes(tokenizer, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True))
    return _written(folder, _drawn(config, 0), tokenizer)
