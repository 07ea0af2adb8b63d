"""A chat template that the user brings: read, tried on a conversation, and known by its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.api import HarnessError
from harness.data.raw import printable
from harness.import_guard import guard_imports

ASKED, ANSWERED = "USER-PROBE", "ASSISTANT-PROBE"


def read_template(path: str) -> str:
    """Return the chat template in a file. Raises `HarnessError`, one line, where it is none."""
    where = f"--chat-template got {printable(path)}"
    expected = "expected a Jinja file that renders `messages`; see chat_template.jinja beside most checkpoints"
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise HarnessError(f"{where}, which cannot be read ({error}), {expected}") from None
    try:
        rendered = _rendered(text)
    except Exception as error:  # a template may fail in as many ways as a program
        line = f", line {number}" if (number := getattr(error, "lineno", None)) else ""
        said = " ".join(printable(str(error)).split())
        raise HarnessError(f"{where}, which is broken ({type(error).__name__}: {said}{line}), {expected}") from None
    if ASKED not in rendered or ANSWERED not in rendered:
        lost = "a user's turn" if ASKED not in rendered else "an assistant's turn"
        raise HarnessError(f"{where}, which does not render {lost}, {expected}")
    return text


def template_key(text: str) -> str:
    """Return 16 hex digits over the content of a template: what board keys call it."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rendered(text: str) -> str:
    """Return the text of a question and its answer; the special tokens of a tokenizer are empty."""
    guard_imports()
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
    (rendered,), _ = render_jinja_template([turns], chat_template=text, bos_token="", eos_token="")
    return str(rendered)
