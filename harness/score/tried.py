"""Whether a scorer takes a model, found out before anything is trained by opening it and scoring one token."""

from __future__ import annotations

from pathlib import Path

from harness.api import HarnessError, ScoreRequest, ScorerOptions, ScorerSource

ONE_TOKEN = ScoreRequest(prompt=(0,), response=(0,))


def require_scorer(scorer: ScorerSource, other: ScorerSource | None, checkpoint: Path, options: ScorerOptions) -> None:
    """Raise `HarnessError` where `scorer` does not take the model in `checkpoint`, saying whether `other` does."""
    trouble = why_not(scorer, checkpoint, options)
    if trouble is None:
        return
    works = other is not None and why_not(other, checkpoint, options) is None
    advice = f"pass --scorer {other.name}, which takes it" if other and works else "name another model"
    raise HarnessError(f"scorer '{scorer.name}' does not take this model, so nothing was trained: {trouble}; {advice}")


def why_not(scorer: ScorerSource, checkpoint: Path, options: ScorerOptions) -> str | None:
    """Return why `scorer` does not take the model, None where it does; it is closed again."""
    try:
        live = scorer.open(checkpoint, options)
        try:
            live.score([ONE_TOKEN])
        finally:
            live.close()
    except HarnessError as error:
        return str(error).removesuffix("; or choose --scorer transformers")
    return None
