"""Ids of whole conversations, as their template has them, and where in them the response begins.

Prompt and response are tokenised as one text, the way the model has read them, and the prompt is what that has in
common with the generation prompt. Mostly it is all of it; where a template renders the prompt otherwise once a response
follows, or a token reaches over the boundary, the seam moves towards the prompt. All responses to a prompt have one
seam, the earliest, so that they answer to the same ids.

To tokenise a long prompt again for each response would cost most of the time. A special token stands for itself
whatever is around it, so what is before the last one of the generation prompt is tokenised once; with the token in
front, what follows it is not taken for the start of a text, where some tokenizers add a space.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.data.template import Shield

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 1000
"""Texts per call of the tokenizer: enough to occupy its threads, few enough for memory."""


class Joint(NamedTuple):
    """One prompt with one response as ids, uncut; together they are those of the whole conversation."""

    prompt_ids: tuple[int, ...]
    """Empty where the generation prompt and the whole conversation begin with different tokens."""
    response_ids: tuple[int, ...]
    seam_moved: bool
    """Whether the prompt lacks tokens of the generation prompt."""


def joint_ids(
    tokenizer: PreTrainedTokenizerBase, shield: Shield, prompts: Sequence[str], wholes: Sequence[tuple[int, str]]
) -> list[Joint]:
    """Return the ids of each whole conversation, given as the place of its generation prompt and its text."""
    safe = _standing_alone(tokenizer)
    cuts = [shield.last_special(prompt, safe) for prompt in prompts]
    parted = [(prompt[:start], prompt[start:]) for prompt, (start, _) in zip(prompts, cuts, strict=True)]
    texts = list(dict.fromkeys(text for parts in parted for text in parts))
    known = dict(zip(texts, ids_of(tokenizer, shield, texts), strict=True))
    heads = [known[head] for head, _ in parted]
    asked = [known[head] + known[tail] for head, tail in parted]

    alike = [whole.startswith(prompts[row][: cuts[row][1]]) for row, whole in wholes]
    rests = [whole[cuts[row][0] :] if same else whole for (row, whole), same in zip(wholes, alike, strict=True)]
    seams = [len(ids) for ids in asked]
    behind: list[tuple[int, list[int]]] = []
    for (row, _), same, ids in zip(wholes, alike, ids_of(tokenizer, shield, rests), strict=True):
        start = len(heads[row]) if same else 0
        seams[row] = min(seams[row], start + _common(asked[row][start:], ids))
        behind.append((start, ids))
    shown = [tuple(ids[:seam]) for ids, seam in zip(asked, seams, strict=True)]
    joints = []
    for (row, _), (start, ids) in zip(wholes, behind, strict=True):
        seam = seams[row]
        response = ids[seam - start :] if seam >= start else heads[row][seam:] + ids
        joints.append(Joint(shown[row], tuple(response), seam < len(asked[row])))
    return joints


def ids_of(tokenizer: PreTrainedTokenizerBase, shield: Shield, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the ids of each rendered text: special tokens where the template put them, plain text elsewhere."""
    for start in range(0, len(texts), BATCH):
        batch = [shield.pieces(text) for text in texts[start : start + BATCH]]
        flat = [[piece for text in batch for piece, plain in text if plain is wanted] for wanted in (False, True)]
        ids = [iter(_call(tokenizer, pieces, plain=plain)) for plain, pieces in enumerate(flat)]
        for text in batch:
            yield [id for _, plain in text for id in next(ids[plain])]


def _call(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, plain: int) -> list[list[int]]:
    # the template has put BOS and EOS where they belong: add_special_tokens would add them a second time
    if not texts:
        return []
    options: dict[str, Any] = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    ids: list[list[int]] = tokenizer(list(texts), split_special_tokens=bool(plain), **options)["input_ids"]
    return ids


def _standing_alone(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """Return the special tokens before which a text can be parted without any change to its ids."""
    if not tokenizer.is_fast:
        return frozenset()
    tokens = [token for token in tokenizer.added_tokens_decoder.values() if token.special]
    return frozenset(token.content for token in tokens if not (token.lstrip or token.normalized or token.single_word))


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many ids two sequences have in common at their start."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(left), len(right)))
