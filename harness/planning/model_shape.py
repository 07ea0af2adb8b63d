"""The sizes of a model that decide what it takes: time, memory and disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

INNER = 4
"""Width inside the feed-forward block / width of the model, where it is not known: GPT-2's."""
VOCABULARY = 32_000
"""Tokens, where they are not known: Llama-2's."""
LAYER_WIDTH = 64
"""Width / layers of a model of which only the number of parameters is known."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of a decoder; `of_parameters` gives usual ones where only their number is known."""

    parameters: int
    """Tied weights count once."""
    layers: int
    width: int
    """Of the hidden states."""
    inner: int
    """Of the feed-forward block."""
    heads: int
    query_width: int
    """Heads x width of one."""
    key_width: int
    """Key and value heads x width of one."""
    vocabulary: int
    window: int | None = None
    """Longest sequence that it takes, in tokens; None: not known."""

    @property
    def linear(self) -> Mapping[str, tuple[int, int]]:
        """The widths of input and output of a layer's linear layers, named as in a Llama."""
        return {
            "self_attn.q_proj": (self.width, self.query_width),
            "self_attn.k_proj": (self.width, self.key_width),
            "self_attn.v_proj": (self.width, self.key_width),
            "self_attn.o_proj": (self.query_width, self.width),
            "mlp.gate_proj": (self.width, self.inner),
            "mlp.up_proj": (self.width, self.inner),
            "mlp.down_proj": (self.inner, self.width),
        }

    @classmethod
    def of_parameters(cls, parameters: int, window: int | None = None) -> ModelShape:
        """Return a usual shape of so many parameters: 12 x layers x width^2 of them (Kaplan et al. 2020, sec. 2.1)."""
        width = max(64, round((parameters * LAYER_WIDTH / 12) ** (1 / 3)))
        return cls(
            parameters=parameters,
            layers=max(1, round(width / LAYER_WIDTH)),
            width=width,
            inner=INNER * width,
            heads=max(1, width // 64),
            query_width=width,
            key_width=width,
            vocabulary=VOCABULARY,
            window=window,
        )


def count_in_words(parameters: int) -> str:
    """Return a number of parameters as `31.3M` or `8.03B`."""
    return f"{parameters / 1e9:.3g}B" if parameters >= 1e9 else f"{parameters / 1e6:.3g}M"
