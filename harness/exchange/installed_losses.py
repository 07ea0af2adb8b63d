"""The losses of records as they are installed here, built from the options that the records have."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from harness.api.errors import HarnessError
from harness.api.loss import Loss, Resolve
from harness.manager import Manager, owner_of, plugin_manager, resolver
from harness.planning.elsewhere import READINGS
from harness.run_folder.record import Record


@dataclass(kw_only=True)
class InstalledLosses:
    """What is installed here, looked up once."""

    manager: Manager
    resolve: Resolve
    _built: dict[str, Loss | str] = field(default_factory=dict)

    @classmethod
    def here(cls) -> InstalledLosses:
        """Return what is installed."""
        manager = plugin_manager()
        return cls(manager=manager, resolve=resolver(manager))

    def find(self, record: Record) -> Loss | None:
        """Return the loss that reads a record's reward, with all its options; None where there is none here.

        It is not installed then, refuses the options, or the reward of a checkpoint from elsewhere is no loss's.
        """
        loss = self._build(record)
        return loss if isinstance(loss, Loss) else None

    def why_not(self, record: Record) -> str:
        """Return why the loss of a record cannot be built; empty where it can."""
        loss = self._build(record)
        return loss if isinstance(loss, str) else ""

    def other_version(self, record: Record) -> str:
        """Return which other version than here brought the loss of a record; empty where it is the same."""
        try:
            owner = owner_of(self.manager, record.loss.name)
        except (KeyError, HarnessError):
            return ""
        made, here = (record.loss.plugin, record.loss.version), (owner.distribution, owner.version)
        return "" if made in (here, (None, None)) else f"made by {made[0]} {made[1]}, here is {here[0]} {here[1]}"

    def _build(self, record: Record) -> Loss | str | None:
        name, options = record.loss.name, record.loss.options
        if record.elsewhere is not None:
            name, options = record.elsewhere.reward, record.elsewhere.options
            if name in READINGS:
                return None
        if record.loss.source:
            return f"defined in Python, or around such a loss (source sha256 {record.loss.source[:8]}): not installed"
        place = json.dumps([name, options], sort_keys=True)
        if place not in self._built:
            try:
                self._built[place] = self.resolve(name, options)
            except HarnessError as error:
                self._built[place] = str(error)
            except Exception as error:  # whatever a plugin raises, it is a reason
                self._built[place] = f"{type(error).__name__}: {error}"
        return self._built[place]
