"""The rules that a loss breaks, of those that `harness plugins check` knows: found once per version, then kept.

Losses of the harness itself are left out: its tests hold them to every rule, with every choice of every option.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import warnings
from pathlib import Path

import harness
from harness.api import Loss
from harness.api.wrapper import with_inner
from harness.manager import losses, plugin_manager, resolver
from harness.planning.job import Job
from harness.run_folder.store import write_atomically

FOLDER = "report-cards"
"""In the cache."""
OF_NO_NUMBER = "is_documented"
"""The rule that says nothing of a loss's numbers: a board does not mark who breaks it."""


def failed_rules(job: Job, loss: Loss) -> tuple[str, ...]:
    """Return the names of the rules that `loss` breaks, in words; nothing for a loss of the harness itself."""
    if all(type(part).__module__.startswith("harness_plugins.") for part in with_inner(loss)):
        return ()
    card = _card(job, loss)
    if card is None or not card.exists():
        failed = _checked(loss)
        if card is not None:
            write_atomically(card, json.dumps(failed))
        return failed
    return tuple(json.loads(card.read_text(encoding="utf-8")))


def _card(job: Job, loss: Loss) -> Path | None:
    """Return where the result is kept; None for a loss whose source is not known: it may be another one next time."""
    try:
        sources = [inspect.getsource(inspect.getmodule(type(part)) or type(part)) for part in with_inner(loss)]
    except (OSError, TypeError):
        return None
    owner = job.owners[loss.name]
    known = [harness.__version__, owner.distribution, owner.version, loss.name, loss.options(), sources]
    return job.cache / FOLDER / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]}.json"


def _checked(loss: Loss) -> tuple[str, ...]:
    from harness.api.checks import Kit, check_loss

    manager = plugin_manager()
    known, resolve = losses(manager), resolver(manager)
    kit = Kit(resolve=lambda name, options: resolve(name, options) if name in known else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_loss(loss, kit)
    failed = [result.name for result in results if result.status == "failed" and result.name != OF_NO_NUMBER]
    return tuple(name.replace("_", " ") for name in failed)
