"""harness verify: the start checkpoint of a record is one that its model and preset can have."""

from __future__ import annotations

from typing import Any

import pytest
from made_records import made_manifest, made_record

from harness.exchange.setting_checks import check_starts
from harness.exchange.untrusted import UntrustedCell
from harness.models.smollm2 import GGUF_SHA256, HUB_ID, IDS

COMMIT = "0123456789" * 4


def problems(name: str, under: str, start: str | None = None, **model: Any) -> tuple[str, ...]:
    record = made_record(
        {
            "model": {"name": name, "preset": "custom", "fingerprint": "f", **model},
            "board": {"preset": under, **({"start": start} if start else {})},
        }
    )
    return check_starts(made_manifest({}), [UntrustedCell(record=record)]).problems


@pytest.mark.parametrize(("of", "revision"), [(HUB_ID, COMMIT), (IDS[1], GGUF_SHA256)])
@pytest.mark.parametrize(("name", "start"), [("smollm2", None), ("llama", "smollm2")])
def test_smollm2_is_the_hubs_or_the_wheels(of: str, revision: str, name: str, start: str | None) -> None:
    under = "nano" if start else "small"
    assert problems(name, under, start, id=of, revision=revision) == ()


def test_smollm2_is_nothing_else() -> None:
    (problem,) = problems("smollm2", "small", id="org/other", revision=COMMIT)
    assert f"got model.id 'org/other', expected {HUB_ID!r} or {IDS[1]!r} of smollm2 under the preset small" in problem


def test_a_gguf_file_is_itself() -> None:
    assert problems("./mine.gguf", "nano", id="./mine.gguf", revision=GGUF_SHA256) == ()
    assert problems("./mine.gguf", "nano", id="./other.gguf", revision=GGUF_SHA256)


def test_a_family_under_small_is_fetched_and_not_made_here() -> None:
    assert problems("qwen", "small", preset="small", id="Qwen/Qwen2.5-0.5B", revision=COMMIT) == ()
    assert problems("qwen", "small", preset="small", id="nano-qwen", revision="0123456789abcdef")
