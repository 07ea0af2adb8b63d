"""What a record says of the training pairs that `--select` chose, and what it did to them. Imports no torch."""

from __future__ import annotations

from harness.run_folder.json_types import Count, Facts, Number


class Kept(Facts):
    """A set of training pairs, as means over it, by weight where pairs have weights."""

    pairs: int
    """How many pairs."""
    alike: Number = None
    """So many pairs of equal weight would be as spread out, (sum w)^2 / sum w^2; absent where all weigh the same."""
    score_gap: Number = None
    """Score of the chosen response minus that of the rejected one; absent where a pair has no scores."""
    chosen_tokens: Number = None
    """Tokens of the chosen response."""
    rejected_tokens: Number = None
    """Tokens of the rejected response."""
    wrong_labels: Number = None
    """Share of pairs whose chosen response is the worse one in truth; absent where the truth is not known."""


class SelectionFacts(Facts):
    """Which training pairs were chosen, and what that did to them; absent where all were kept."""

    setting: str
    """As `--select` has it, with all options."""
    candidates: Count = None
    """Pairs of the training lists that there were to choose from; absent where those of the data were."""
    before: Kept
    """The training pairs of the data, those to choose from unless `candidates` are."""
    after: Kept
    """Those that were trained on."""

    @property
    def in_words(self) -> str:
        """What was done, for boards."""
        changes = [
            f"{name} {first:.{digits}f} to {last:.{digits}f}"
            for name, digits, first, last in (
                ("mean score gap", 2, self.before.score_gap, self.after.score_gap),
                ("tokens of the chosen response", 1, self.before.chosen_tokens, self.after.chosen_tokens),
                ("of the rejected one", 1, self.before.rejected_tokens, self.after.rejected_tokens),
            )
            if first is not None and last is not None
        ]
        if self.before.wrong_labels is not None and self.after.wrong_labels is not None:
            changes.append(f"wrong labels {self.before.wrong_labels:.1%} to {self.after.wrong_labels:.1%}")
        after, before = f"{self.after.pairs:,}", f"{self.before.pairs:,} training pairs"
        done = f"keeps {after} of {before}"
        if self.candidates is not None:
            done = f"makes {after} pairs out of {self.candidates:,} of the training lists, in the place of {before}"
        if self.after.alike is not None:
            done += f", visited by weight (as spread out as {self.after.alike:,.1f} that weigh the same)"
        return f"{self.setting} {done}: {', '.join(changes)}"
