"""The least time that training on some pairs could take here: the FLOPs it needs at the best rate of any library.

Needed: every prompt once for both of its responses, the output head on response tokens alone, causal attention, and
three times all that for forward and backward. The rate is measured on the spot, at the shapes of the model's own
products: torch's default library against oneDNN in fp32, torch's default in bf16. What remains between a run and its
floor is softmax, norms, copies, the optimiser and whatever a product loses outside its best case.

    python tests/benchmarks/floor.py     prints the rates of this machine
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SECONDS_A_RATE = 0.1


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a decoder that its FLOPs depend on."""

    layers: int
    width: int
    inner: int
    """Of the MLP, which has three products (gate, up, down)."""
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        """Return the sizes in a configuration of transformers."""
        return cls(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            inner=config.intermediate_size,
            heads=config.num_attention_heads,
            key_heads=config.num_key_value_heads,
            head_width=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            vocabulary=config.vocab_size,
        )

    def products(self) -> list[tuple[int, int]]:
        """Return (inputs, outputs) of each linear layer of a block."""
        keys = self.key_heads * self.head_width
        queries = self.heads * self.head_width
        attention = [(self.width, queries), (self.width, keys), (self.width, keys), (queries, self.width)]
        return [*attention, (self.width, self.inner), (self.width, self.inner), (self.inner, self.width)]


def needed_flops(shape: Shape, prompt: int, chosen: int, rejected: int) -> float:
    """Return the FLOPs of forward and backward of one pair whose prompt is run once."""
    responses = chosen + rejected
    linear = 2 * shape.layers * (prompt + responses) * sum(a * b for a, b in shape.products())
    head = 2 * shape.width * shape.vocabulary * responses
    # (query, key) places with the key not after the query; two products of 2 FLOPs a number each
    places = prompt * (prompt + 1) / 2 + sum(r * prompt + r * (r + 1) / 2 for r in (chosen, rejected))
    attention = 4 * shape.layers * shape.heads * shape.head_width * places
    return 3.0 * (linear + head + attention)


def rate(rows: int, inputs: int, outputs: int, dtype: str) -> dict[str, float]:
    """Return FLOP/s of (rows, inputs) x (inputs, outputs) by library."""
    kind = getattr(torch, dtype)
    x, w = torch.randn(rows, inputs, dtype=kind), torch.randn(outputs, inputs, dtype=kind)
    ways: dict[str, Callable[[], Tensor]] = {"torch": lambda: torch.nn.functional.linear(x, w)}
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own
        ways["onednn"] = lambda: torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")
    return {name: 2.0 * rows * inputs * outputs / _least(way) for name, way in ways.items()}


def _least(way: Callable[[], Tensor]) -> float:
    """Return the shortest of several calls, seconds: the floor is what the machine can do."""
    with torch.no_grad():
        way()
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - began < SECONDS_A_RATE:
            start = time.perf_counter()
            way()
            times.append(time.perf_counter() - start)
    return min(times)


def floor(shape: Shape, lengths: Sequence[tuple[int, int, int]], *, micro_pairs: int, dtype: str) -> dict[str, Any]:
    """Return the floor in seconds of training once on pairs of these (prompt, chosen, rejected) tokens, and the rates.

    The rate is that of all linear products of a micro-batch, each by its best library; attention is charged at it too.
    """
    flops = sum(needed_flops(shape, *pair) for pair in lengths)
    rows = micro_pairs * sum(map(sum, lengths)) // len(lengths)
    responses = micro_pairs * sum(chosen + rejected for _, chosen, rejected in lengths) // len(lengths)
    calls = [(rows, *product) for product in shape.products()] * shape.layers
    calls.append((responses, shape.width, shape.vocabulary))
    measured = {call: rate(*call, dtype) for call in dict.fromkeys(calls)}
    work = sum(2.0 * a * b * c for a, b, c in calls)
    by_library = {
        name: work / sum(2.0 * a * b * c / measured[a, b, c][name] for a, b, c in calls)
        for name in next(iter(measured.values()))
    }
    best = work / sum(2.0 * a * b * c / max(measured[a, b, c].values()) for a, b, c in calls)
    return {"seconds": flops / best, "flops": flops, "rate": best, "rates": by_library}


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    tiny = Shape(layers=4, width=256, inner=1024, heads=4, key_heads=2, head_width=64, vocabulary=4096)
    for kind in ("float32", "bfloat16"):
        found = floor(tiny, [(81, 209, 208)], micro_pairs=4, dtype=kind)
        rates = ", ".join(f"{name} {value / 1e9:.0f}" for name, value in found["rates"].items())
        print(f"{kind}: GFLOP/s {rates}; best {found['rate'] / 1e9:.0f}; {1 / found['seconds']:.1f} pairs/s at most")
