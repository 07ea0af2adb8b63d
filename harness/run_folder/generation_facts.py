"""What a record says of the answers that its model sampled. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from harness.run_folder.json_types import Facts, Number


class PromptFacts(Facts):
    """What was answered in the place of held-out prompts."""

    name: str
    """Of the file; of an official set its style, as `AlpacaEval style`."""
    source: str
    """What `--prompts` takes to read them again."""
    licence: str
    """Empty where it is not known."""
    fingerprint: str
    """Hash of all its prompts and of the answers that it brings."""


class GenerationFacts(Facts):
    """The answers in generations.parquet: how they were sampled, and the mean of each of its numbers."""

    prompts: int
    """Held-out prompts that were answered, the first of the data; of `--prompts` if `asked` is there."""
    samples: int
    """Answers per prompt."""
    temperature: float
    top_p: float
    max_new_tokens: int
    stop: tuple[int, ...]
    """Tokens that end an answer."""
    asked: PromptFacts | None = None
    """The prompts of `--prompts`; absent where held-out ones were answered."""
    metrics: dict[str, Number] = Field(default_factory=dict)
    """Mean over prompts of their mean over samples; null where it is missing, as the KL of tempered samples."""
