"""A tiny random Llama as a GGUF file, written with the package `gguf` alone: the outside truth of its readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

WIDTH, HEADS, LAYERS, INNER = 64, 2, 1, 96
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _alphabet() -> list[str]:
    """The 256 characters that stand for bytes, as GPT-2 has them."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


TOKENS = [*SPECIAL, *_alphabet(), "ĠĠ"]
VOCABULARY = len(TOKENS)


def _weights(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(scale=0.3, size=shape).astype(np.float32)

    weights = {"token_embd.weight": drawn(VOCABULARY, WIDTH), "output_norm.weight": 1 + drawn(WIDTH)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        weights |= {f"{block}{name}.weight": 1 + drawn(WIDTH) for name in ("attn_norm", "ffn_norm")}
        weights |= {f"{block}attn_{name}.weight": drawn(WIDTH, WIDTH) for name in ("q", "output")}
        weights |= {f"{block}attn_{name}.weight": drawn(WIDTH // HEADS, WIDTH) for name in ("k", "v")}
        weights |= {f"{block}ffn_{name}.weight": drawn(INNER, WIDTH) for name in ("gate", "up")}
        weights[f"{block}ffn_down.weight"] = drawn(WIDTH, INNER)
    return weights


def write_gguf(
    file: Path,
    kind: str = "F32",
    seed: int = 0,
    change: Callable[[dict[str, np.ndarray]], object] = lambda weights: None,
) -> tuple[Path, dict[str, np.ndarray]]:
    """Write the model, matrices as `kind`, with a tied head; return the file and the weights that it holds."""
    import gguf
    from gguf.quants import dequantize, quantize

    weights, held = _weights(seed), {}
    change(weights)
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("tiny")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (VOCABULARY - 3))
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, weight in weights.items():
        if weight.ndim == 2 and kind != "F32":
            type_ = gguf.GGMLQuantizationType[kind]
            data = quantize(weight, type_)
            held[name] = dequantize(data, type_)
            writer.add_tensor(name, data, raw_dtype=type_)
        else:
            held[name] = weight
            writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, held


def weights_of(held: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights under the names of transformers, rotary halves apart instead of interleaved."""
    named = {}
    for name, weight in held.items():
        block, _, rest = name.removeprefix("blk.").partition(".")
        part = rest.removesuffix(".weight")
        key = NAMES[name] if name in NAMES else f"model.layers.{block}.{NAMES[part]}.weight"
        if part in ("attn_q", "attn_k"):
            heads = weight.shape[0] * HEADS // WIDTH
            pairs = weight.reshape(heads, WIDTH // HEADS // 2, 2, WIDTH)
            weight = np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(weight.shape))
        named[key] = weight
    return named
