"""A process that a launcher started beside the run: it takes part in the trainings of the first, and prints nothing.

A signal that stops a run, which launchers send to all, is the first process's to answer: it has the training kept, for
which it needs this one. So it is let pass here. The end comes with the word that the run is over, or when the store is
gone, and with it the launcher or the first process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.execute import workers
from harness.execute.worker_process import leave_with_parent
from harness.planning.launch import Launch, without_launch
from harness.run_folder.shown import without_secrets

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from torch.distributed import Store  # type: ignore[attr-defined]  # not in torch's __all__

BETWEEN = 0.1
"""Seconds between two looks at the store."""


def follow(launch: Launch) -> int:
    """Take part in every training of a run; return the exit code of this process when the run is over."""
    from harness.training.together import connected

    for signalled in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signalled, signal.SIG_IGN)
    try:
        store, number = connected(launch), 0
        while (now := _next(store, number)) is not None:
            number = now
            _take_part(launch, store, number)
    except RuntimeError:  # the store is gone
        return 1
    return 0


@contextmanager
def leading(launch: Launch) -> Iterator[None]:
    """Have the other processes end when what is done inside has, however it did."""
    from harness.training.together import OVER, connected

    store = connected(launch, hosts=True)
    try:
        yield
    finally:
        store.set(OVER, "")


def _next(store: Store, number: int) -> int | None:
    """Wait for a training after the one of this number, and return its number; None: the run is over."""
    from harness.training.together import is_over, trainings

    while not is_over(store):
        if (now := trainings(store)) > number:  # those between were ended before this process could come to them
            return now
        time.sleep(BETWEEN)
    return None


def _take_part(launch: Launch, store: Store, number: int) -> None:
    """Have a worker take part in a training, and end it where the first process has left that for another one."""
    from harness.training.together import is_over, trainings

    worker: BaseProcess = workers.context().Process(target=_work, args=(launch, number, without_launch(os.environ)))
    workers.start(worker)
    try:
        while worker.is_alive() and not is_over(store) and trainings(store) == number:
            worker.join(timeout=BETWEEN)
    finally:
        worker.kill()
        worker.join()


def _work(launch: Launch, number: int, environment: dict[str, str]) -> None:
    for signalled in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signalled, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=leave_with_parent, daemon=True).start()
    nowhere = os.open(os.devnull, os.O_WRONLY)  # until it knows its log
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    from harness.training.together import take_part

    try:
        take_part(launch, number)
    except Exception:  # the first process has been told
        print(without_secrets(traceback.format_exc()), file=sys.stderr)
