"""A reward model as a judge: a sequence classifier of one number, which reads the ids of its own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import HarnessError, JudgeOptions, JudgeRequest, JudgeSource, Rating, hookimpl
from harness.data.joint import ids_of
from harness.data.template import RefusedError, Shield, Template
from harness.import_guard import guard_imports
from harness.models.folders import DECIDES, content_of, local, weight_files
from harness.models.hub import HUB_ID, fetch
from harness.models.load import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAME = "reward-model"
TOO_LONG, REFUSED = "longer than the model's context window", "refused by the chat template"


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """A live sequence classifier."""

    model: Any
    tokenizer: PreTrainedTokenizerBase

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Rating]:
        """Return the model's number for the whole conversation with each answer, read one by one, without padding."""
        import torch

        window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        ratings = []
        for request in requests:
            ids = conversation_ids(self.tokenizer, request)
            if ids is None or (window is not None and len(ids) > window):
                ratings.append(Rating(value=None, reason=REFUSED if ids is None else TOO_LONG))
                continue
            with torch.inference_mode():
                value = self.model(input_ids=torch.tensor([ids], device=self.model.device)).logits[0, 0].item()
            ratings.append(Rating(value=value))
        return ratings

    def close(self) -> None:
        """Do nothing: the memory is free when nobody holds the judge."""


def conversation_ids(tokenizer: PreTrainedTokenizerBase, request: JudgeRequest) -> list[int] | None:
    """Return the ids of the whole conversation with the answer; None where the chat template refuses it.

    A special token that is quoted in a text stays text.
    """
    specials = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    template = Template(tokenizer, Shield(sorted(specials, key=len, reverse=True)))
    (answer,) = request.answers
    try:
        text = template.whole(template.turns(request.context), answer)
    except RefusedError:
        return None
    return next(ids_of(tokenizer, template.shield, [text]))


def open_reward_model(what: str, options: JudgeOptions) -> RewardModel:
    """Load the model, on the GPU where there is one. Raises `HarnessError` where it does not give one number."""
    guard_imports()
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder = _folder(what, options)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=options.trust_remote_code)
    if config.num_labels != 1 or not any("Classification" in name for name in config.architectures or ()):
        made = ", ".join(config.architectures or ("no architecture",))
        raise HarnessError(
            f"judge '{NAME}:{what}': got {made} with {config.num_labels} labels, expected a sequence classifier with "
            "one; name a reward model"
        )
    cuda = torch.cuda.is_available()
    model = AutoModelForSequenceClassification.from_pretrained(
        folder,
        config=config,
        dtype="auto" if cuda else torch.float32,
        trust_remote_code=options.trust_remote_code,
    )
    model.eval().to("cuda" if cuda else "cpu")
    return RewardModel(model=model, tokenizer=load_tokenizer(folder, options.trust_remote_code))


def _folder(what: str, options: JudgeOptions) -> Path:
    return local(what) or fetch(what, options.trust_remote_code, lambda _: None).folder


def identity(what: str) -> str:
    """Return the name with the content of a local folder, or with the commit of a model of the hub."""
    folder = local(what)
    if folder is None:
        found = fetch(what, False, lambda _: None)
        return f"{NAME}:{found.id}@{found.revision}"
    files = [*weight_files(folder), *(file for pattern in (*DECIDES, "*.jinja") for file in folder.glob(pattern))]
    return f"{NAME}@{content_of([file for file in files if file.is_file()])[:16]}"


def why_not(what: str) -> str | None:
    """Return why it cannot judge: a model has to be named, and where it is a folder, to be there."""
    if not what:
        return f"got '{NAME}' without a model, expected {NAME}:ID, a hub id or a folder"
    folder = local(what)
    there = HUB_ID.fullmatch(what) if folder is None else (folder / "config.json").is_file()
    return None if there else f"got '{what}', expected a hub id such as org/name, or a folder with a config.json"


@hookimpl
def harness_judges() -> list[JudgeSource]:
    """Return the judge by reward models."""
    return [
        JudgeSource(
            name=NAME,
            asks="answers",
            identity=identity,
            why_not=why_not,
            open=open_reward_model,
            summary=f"{NAME}:ID: a sequence classifier of one number, from the hub or a folder",
        )
    ]
