"""How long things take, in words; and a word now and then from a run that works for long with nothing to tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.planning.events import StepTaken

EVERY = 60.0
"""Seconds of silence after which a run whose output is no terminal says what it is at."""


@dataclass(kw_only=True)
class _Work:
    """What a model is at."""

    text: str
    since: float
    """When it began; of training, when its first step was done."""
    first: int = 0
    """The first step that was seen."""
    last: StepTaken | None = None

    def told(self, now: float) -> str:
        """Return what it is at, with step, loss and time left where it takes steps."""
        if self.last is None:
            return f"{self.text}, for {clock(now - self.since)} so far"
        step, steps = self.last.step, self.last.steps
        line = f"{self.text}: step {step}{f' of {steps}' if steps else ''}, loss {self.last.loss:.4g}"
        if steps and step > self.first:
            line += f"; ETA of this cell {clock((steps - step) * (now - self.since) / (step - self.first))}"
        return line


class Heartbeat:
    """Says what each model is at whenever `EVERY` seconds have passed without a line. Runs in a thread of its own."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock, self._over = threading.Lock(), threading.Event()
        self._work: dict[str, _Work] = {}
        self._silent_since = time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def start(self) -> None:
        """Begin to watch for silence."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, if it was started."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def begins(self, model: str, text: str) -> None:
        """Note what a model is at from now on."""
        with self._lock:
            self._work[model] = _Work(text=text, since=time.monotonic())

    def steps(self, model: str, event: StepTaken) -> None:
        """Note a step of the training that a model is at."""
        with self._lock:
            work = self._work.get(model)
            if work is None:
                return
            if work.last is None:
                work.first, work.since = event.step, time.monotonic()
            work.last = event

    def ends(self, model: str) -> None:
        """Note that a model has ended what it was at."""
        with self._lock:
            self._work.pop(model, None)

    def heard(self) -> None:
        """Note that a line was printed."""
        self._silent_since = time.monotonic()

    def _beat(self) -> None:
        while not self._over.wait(max(0.01, self._silent_since + EVERY - time.monotonic())):
            now = time.monotonic()
            if now - self._silent_since < EVERY:
                continue
            with self._lock:
                lines = [f"[{model}] {work.told(now)}" for model, work in self._work.items()]
            self._silent_since = now
            for line in lines:
                self._say(line)


def clock(seconds: float) -> str:
    """Return `1 h 02 min`, `3 min 05 s` or `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
