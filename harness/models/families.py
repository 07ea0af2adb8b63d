"""The model families: chat template, special tokens, hub checkpoint, and a config of about 1M parameters."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.planning.presets import SMOLLM2

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SLIDING_WINDOW = 64
"""Tokens; far below the length of a pair, so that a scorer without the window is found out."""
MAX_POSITIONS = 32_768
"""Longest sequence a nano config admits; rotary positions have no weights, so it costs nothing."""

# The system turn, where the family has none of its own, is folded into the first user turn.
CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
_FOLD = (
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set system = messages[0]['content'] + '\\n\\n' -%}{%- set turns = messages[1:] -%}"
    "{%- else -%}{%- set system = '' -%}{%- set turns = messages -%}{%- endif -%}"
    "{{ bos_token }}{%- for message in turns -%}"
    "{%- set content = (system if loop.first else '') + message['content'] -%}"
)
GEMMA_TURNS = (
    _FOLD + "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
    "{{ '<start_of_turn>' + role + '\\n' + content + '<end_of_turn>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
)
MISTRAL_INST = (
    _FOLD + "{%- if message['role'] == 'user' -%}{{ '[INST] ' + content + ' [/INST]' }}"
    "{%- else -%}{{ ' ' + content + eos_token }}{%- endif -%}"
    "{%- endfor -%}"
)
LLAMA_HEADERS = (
    "{{ bos_token }}{%- for message in messages -%}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] + '<|eot_id|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}"
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the harness knows of a model family that its checkpoints do not say themselves."""

    name: str
    """The name on the command line and on the board."""
    hub_id: str
    """The base checkpoint of the preset `paper`."""
    model_type: str
    """`model_type` in the checkpoint's config."""
    chat_template: str
    """Jinja; used for nano models and for checkpoints whose tokenizer has none."""
    pad: str
    eos: str
    """Ends a text; a turn of Gemma or Qwen ends with another token."""
    bos: str | None
    """None: the family starts no text with a token."""
    turn_tokens: tuple[str, ...]
    """Further special tokens of the template."""
    nano_config: Callable[[int], PretrainedConfig]
    """Vocabulary size -> config of about 1M parameters with the family's own mechanisms."""
    shared_type: bool = False
    """Others' models have the family's `model_type` too: the template is for tokenizers that have its tokens alone."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Every special token of a nano tokenizer, in the order of its ids."""
        return tuple(dict.fromkeys([self.pad, self.eos, *([self.bos] if self.bos else []), *self.turn_tokens]))

    def suits(self, vocabulary: Container[str]) -> bool:
        """Return whether the chat template is for a checkpoint of this `model_type` with these tokens."""
        return not self.shared_type or all(token in vocabulary for token in self.turn_tokens)


def _sizes(vocabulary: int) -> dict[str, object]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 128,
        "num_attention_heads": 4,  # 32 wide: the smallest head that vLLM's attention takes on a CPU
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_POSITIONS,
        "initializer_range": 0.06,  # the usual 0.02 suits widths of thousands
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    }


def _qwen(vocabulary: int) -> PretrainedConfig:
    from transformers import Qwen2Config

    return Qwen2Config(
        **_sizes(vocabulary), num_hidden_layers=3, intermediate_size=384, tie_word_embeddings=True,
        pad_token_id=0, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip  # with one option per line the differences would not show


def _gemma(vocabulary: int) -> PretrainedConfig:
    from transformers import Gemma2Config

    return Gemma2Config(
        **_sizes(vocabulary), num_hidden_layers=2, intermediate_size=640, tie_word_embeddings=True,
        head_dim=32, query_pre_attn_scalar=32, hidden_activation="gelu_pytorch_tanh",
        attn_logit_softcapping=50.0, final_logit_softcapping=30.0, sliding_window=SLIDING_WINDOW,
        layer_types=["sliding_attention", "full_attention"],
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip  # as above


def _mistral(vocabulary: int) -> PretrainedConfig:
    from transformers import MistralConfig

    return MistralConfig(
        **_sizes(vocabulary), num_hidden_layers=3, intermediate_size=192, tie_word_embeddings=False,
        head_dim=32, sliding_window=SLIDING_WINDOW, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip  # as above


def _llama(vocabulary: int) -> PretrainedConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        **_sizes(vocabulary), num_hidden_layers=3, intermediate_size=192, tie_word_embeddings=False,
        head_dim=32, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip  # as above


QWEN = Family(
    name="qwen",
    hub_id="Qwen/Qwen2.5-0.5B",
    model_type="qwen2",
    chat_template=CHATML,
    pad="<|endoftext|>",
    eos="<|endoftext|>",
    bos=None,
    turn_tokens=("<|im_start|>", "<|im_end|>"),
    nano_config=_qwen,
)
GEMMA = Family(
    name="gemma",
    hub_id="google/gemma-2-2b",
    model_type="gemma2",
    chat_template=GEMMA_TURNS,
    pad="<pad>",
    eos="<eos>",
    bos="<bos>",
    turn_tokens=("<start_of_turn>", "<end_of_turn>"),
    nano_config=_gemma,
)
MISTRAL = Family(
    name="mistral",
    hub_id="mistralai/Mistral-7B-v0.1",
    model_type="mistral",
    chat_template=MISTRAL_INST,
    pad="<pad>",
    eos="</s>",
    bos="<s>",
    turn_tokens=("[INST]", "[/INST]"),
    nano_config=_mistral,
)
LLAMA = Family(
    name="llama",
    hub_id="meta-llama/Meta-Llama-3-8B",
    model_type="llama",
    chat_template=LLAMA_HEADERS,
    pad="<|pad|>",
    eos="<|end_of_text|>",
    bos="<|begin_of_text|>",
    turn_tokens=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    nano_config=_llama,
    shared_type=True,
)
FAMILIES = {family.name: family for family in (QWEN, GEMMA, MISTRAL, LLAMA)}
"""By the name on the command line."""


def named() -> str:
    """Return the models that have a name of their own, as errors list them."""
    return ", ".join([*FAMILIES, SMOLLM2])


def family_of(model_type: str) -> Family | None:
    """Return the family whose chat template suits a checkpoint of this `model_type`, or None where there is none."""
    return next((family for family in FAMILIES.values() if model_type == family.model_type), None)
