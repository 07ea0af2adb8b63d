"""Adapters as a setting, `--adapter`: which weights are trained. `harness.models.adapters` puts them on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

FULL = "full"
KINDS = ("lora", "qlora")
ALL_LINEAR = "all-linear"
RANK = 16
ALPHA_PER_RANK = 2
"""Factor of the adapters' products, alpha / rank, where no alpha is given."""
MOST = 4096
"""Highest rank and alpha that are taken: wider layers than those of released models have no use for more."""
EXPECTED = f"full, {' or '.join(KINDS)}, with options as in lora:r=16,alpha=32,targets=q_proj+v_proj"


@dataclass(frozen=True, kw_only=True)
class AdapterSetting:
    """LoRA of a rank on some of the linear layers; the weights below it stay as they are."""

    quantised: bool = False
    """Whether the weights below are kept in 4 bits, NF4 (QLoRA)."""
    r: int = RANK
    alpha: int = RANK * ALPHA_PER_RANK
    """The product of an adapter's two matrices is added times alpha / r."""
    targets: tuple[str, ...] = ()
    """How the names of the layers end that get one, sorted; empty: every linear layer but the head."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the setting that `lora:r=16,alpha=32,targets=all-linear` names; None for `full`. Raises `ValueError`.

        Without an alpha it is twice the rank.
        """
        kind, colon, rest = (part.strip() for part in text.partition(":"))
        if kind == FULL and not colon:
            return None
        if kind not in KINDS:
            raise ValueError(f"expected {EXPECTED}")
        options: dict[str, str] = {}
        for part in rest.split(",") if colon else ():
            name, equals, value = (each.strip() for each in part.partition("="))
            if name not in ("r", "alpha", "targets") or not equals or name in options:
                raise ValueError(f"got '{part.strip()}', expected r=RANK, alpha=FACTOR or targets=NAME+NAME, each once")
            options[name] = value
        r = _whole("r", options.get("r", str(RANK)))
        alpha = _whole("alpha", options.get("alpha", str(r * ALPHA_PER_RANK)))
        targets = _targets(options.get("targets", ALL_LINEAR))
        return cls(quantised=kind == "qlora", r=r, alpha=alpha, targets=targets)

    def __str__(self) -> str:
        """The one way to write it: what is as by default is left out."""
        given = [
            *([f"r={self.r}"] if self.r != RANK else []),
            *([f"alpha={self.alpha}"] if self.alpha != self.r * ALPHA_PER_RANK else []),
            *([f"targets={'+'.join(self.targets)}"] if self.targets else []),
        ]
        return KINDS[self.quantised] + (f":{','.join(given)}" if given else "")

    def matches(self, layer: str) -> bool:
        """Return whether the linear layer of this name gets an adapter."""
        return not self.targets or any(f".{layer}".endswith(f".{target}") for target in self.targets)


def canonical(text: str) -> str:
    """Return the one way to write what `text` names, `full` or an adapter. Raises `ValueError`."""
    return str(AdapterSetting.parse(text) or FULL)


def adapter_in_words(text: str) -> str:
    """Return what is said of a setting as it stands in a board's key, such as `LoRA adapters, r=8`."""
    kind, _, options = text.partition(":")
    words = {FULL: "full fine-tuning", "lora": "LoRA adapters", "qlora": "QLoRA adapters"}.get(kind, kind)
    return ", ".join([words, *filter(None, options.split(","))])


def _whole(option: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MOST):
        raise ValueError(f"got {option}={text}, expected a whole number from 1 to {MOST}")
    return int(text)


def _targets(text: str) -> tuple[str, ...]:
    names = sorted({name.strip().strip(".") for name in text.split("+")})
    if not all(names) or (ALL_LINEAR in names and len(names) > 1):
        raise ValueError(f"got targets={text}, expected {ALL_LINEAR} or names of linear layers, such as q_proj+v_proj")
    return () if names == [ALL_LINEAR] else tuple(names)
