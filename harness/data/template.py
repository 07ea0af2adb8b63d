"""Conversations as the text that a model's chat template makes of them, and which of them it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.api import HarnessError, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turn = dict[str, Any]
"""A turn as templates take it."""
DAY = datetime(2024, 7, 26)
"""Today, for every template that asks: the day that Llama's fall back to where they are told none."""
DATE_STRING = "%d %b %Y"
"""How Llama's templates write a day."""


def _clock() -> str:
    """Return a macro that takes the place of the templates' `strftime_now`, always on `DAY`."""
    codes = [f"%{flag}{code}" for flag in ("-", "") for code in "aAbBcdDeFgGHIjmMpRSTuUVwWxXyY"]
    filters = "".join(f"|replace({json.dumps(code)}, {json.dumps(DAY.strftime(code))})" for code in codes)
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}\n"


CLOCK = _clock()
"""Put before a template; functions cannot be given to one."""


class RefusedError(Exception):
    """A conversation that the template refuses, in the template's words."""


@dataclass(frozen=True)
class Template:
    """The chat template of a tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    shield: Shield

    @property
    def name(self) -> str:
        """The tokenizer's name in errors."""
        return f"tokenizer '{self.tokenizer.name_or_path}'" if self.tokenizer.name_or_path else "the tokenizer"

    @cached_property
    def _text(self) -> str:
        """The template, with the clock replaced where it reads one."""
        text = _template_of(self.tokenizer)
        if text is None:
            raise HarnessError(
                f"{self.name} has no chat template, expected one; give one as --chat-template FILE, name a checkpoint "
                "whose tokenizer has it, or set `chat_template` in its tokenizer_config.json"
            )
        return CLOCK + text if "strftime_now" in text else text

    @cached_property
    def _variables(self) -> dict[str, str]:
        return {"date_string": f"{DAY:{DATE_STRING}}"} if "date_string" in self._text else {}

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template renders a system turn: Gemma's refuses it, and some drop it silently."""
        turns: list[Turn] = [
            {"role": "system", "content": "SYSTEM-PROBE"},
            {"role": "user", "content": "hello"},
        ]
        return self._shows(turns, "SYSTEM-PROBE")

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template renders the call of a tool and what came back: some drop calls silently."""
        call = {"id": "callprobe", "type": "function", "function": {"name": "CALL-PROBE", "arguments": {"x": "y"}}}
        turns: list[Turn] = [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "RESULT-PROBE", "tool_call_id": "callprobe", "name": "CALL-PROBE"},
        ]
        return self._shows(turns, "CALL-PROBE", "RESULT-PROBE")

    def turns(self, context: Sequence[Message]) -> list[Turn]:
        """Return the turns as the template takes them, a system turn folded into the user's where it has none."""
        if any(turn.tools for turn in context) and not self.takes_tools:
            raise RefusedError("it renders no calls of tools")
        return [self._turn(turn) for turn in (context if self.takes_system else _fold(context))]

    def render(self, turns: Sequence[Turn], *, generation_prompt: bool = False) -> str:
        """Return the text of the turns; raise `RefusedError` where the template refuses them."""
        from jinja2 import TemplateError

        try:
            text: str = self.tokenizer.apply_chat_template(
                list(turns),
                chat_template=self._text,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                **self._variables,
            )
        except (TemplateError, TypeError) as error:
            raise RefusedError(str(error)) from None
        return text

    def whole(self, turns: Sequence[Turn], said: str) -> str:
        """Return the text of the turns with the assistant's answer to them."""
        return self.render([*turns, {"role": "assistant", "content": self.shield.up(said)}])

    def _turn(self, turn: Message) -> Turn:
        made: Turn = {"role": turn.role, "content": self.shield.up(turn.content)}
        if not turn.tools:
            return made
        further: Turn = json.loads(self.shield.up(turn.tools))
        for call in further.get("tool_calls", ()):
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("arguments"), str):
                try:  # templates take an object, and would quote the JSON text of one a second time
                    function["arguments"] = json.loads(function["arguments"])
                except ValueError:
                    continue
        return made | further

    def _shows(self, turns: Sequence[Turn], *probes: str) -> bool:
        """Return whether the probes are rendered, before an answer and with one: some drop a turn once one follows."""
        try:
            texts = self.render(turns, generation_prompt=True), self.whole(turns, "hi")
        except RefusedError:
            return False
        return all(probe in text for text in texts for probe in probes)


def template_day(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the day, as 2024-07-26, that the tokenizer's chat template is given; empty where it asks for none."""
    return DAY.date().isoformat() if re.search(r"\b(strftime_now|date_string)\b", _template_of(tokenizer) or "") else ""


def _template_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the text of the tokenizer's chat template, of several the one for plain conversations."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        return template.get("default")
    return template


def _fold(context: Sequence[Message]) -> Sequence[Message]:
    """Return the context with its leading system turn put before the first user turn's text."""
    if len(context) < 2 or context[0].role != "system":
        return context
    if not context[0].content.strip():
        return context[1:]
    first = context[1]
    return [Message(role=first.role, content=f"{context[0].content}\n\n{first.content}"), *context[2:]]


class Shield:
    """Keeps the strings of special tokens in a user's text from becoming special tokens.

    Each is replaced by a marker of Unicode noncharacters before the template is rendered, and is put back afterwards to
    be tokenised as plain text: a response that quotes `<|im_end|>` does not end there.
    """

    def __init__(self, specials: Sequence[str]) -> None:
        self._markers = {special: f"\ufdd0{index}\ufdd1" for index, special in enumerate(specials)}
        self._specials = {marker: special for special, marker in self._markers.items()}
        self._up = re.compile("|".join(map(re.escape, specials)) or r"(?!)")
        self._down = re.compile("(" + ("|".join(self._specials) or r"(?!)") + ")")

    def up(self, text: str) -> str:
        """Return `text` with markers in place of the strings of special tokens."""
        return self._up.sub(lambda match: self._markers[match[0]], text)

    def last_special(self, text: str, among: Container[str]) -> tuple[int, int]:
        """Return where the last special token of a rendered text, one of `among`, starts and ends; else (0, 0)."""
        spans = (match.span() for match in self._up.finditer(text) if match[0] in among)
        return max(spans, default=(0, 0))

    def pieces(self, text: str) -> list[tuple[str, bool]]:
        """Return (piece, whether it stood behind a marker and so is plain text), in order."""
        return [
            (self._specials.get(piece, piece), piece in self._specials) for piece in self._down.split(text) if piece
        ]
