"""A run, as one validated value: from a TOML file, from flags, or both (flags win)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from pydantic import PrivateAttr, ValidationError, model_validator

from harness.planning.generation import GENERATION
from harness.planning.presets import LEARNING_RATES, PRESETS, Preset
from harness.planning.run_errors import wrong_value
from harness.planning.run_fields import RunFields
from harness.planning.run_toml import toml_text
from harness.run_folder.adapter_setting import AdapterSetting
from harness.run_folder.board_key import BoardKey

PROTOCOL = 1
"""Version of the rules of measuring: a table takes records of one only. Raise it when what is measured changes."""
CHECKPOINT_EVERY = 10.0
"""Minutes between checkpoints inside a cell, where none are given."""
RATE_FACTOR = 4.0
"""Trials draw the learning rate from 1 / 4 to 4 times the shared one, log-uniform: the same range for every loss."""


class Run(RunFields):
    """Everything that decides a result. Fields, with dashes, are keys of run.toml and flags of `harness run`."""

    _data: str = PrivateAttr(default="")
    """What board keys call the data; "" for the name or path in `dataset`."""
    _test: str = PrivateAttr(default="")
    """Likewise for the data in `test`."""
    _template: str = PrivateAttr(default="")
    """Likewise for the chat template; "" where none is given."""
    _names: dict[str, str] = PrivateAttr(default_factory=dict)
    """What boards and their keys call local models, by the path that `models` and `start` have."""

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Run:
        settings = self.settings
        if self.micro_pairs != "auto" and settings.batch_pairs % settings.micro_pairs:
            raise ValueError(
                f"--micro-pairs got {settings.micro_pairs}, expected a divisor of the {settings.batch_pairs} pairs of "
                "a step (--batch-pairs); change one of the two"
            )
        return self

    @model_validator(mode="after")
    def _weights_in_bf16(self) -> Run:
        if self.optimizer == "adamw-bf16-sr" and (self.adapter != "full" or self.settings.dtype != "bfloat16"):
            raise ValueError(
                f"--optimizer got adamw-bf16-sr with --adapter {self.adapter} and --dtype {self.settings.dtype}, "
                "expected full and bfloat16: it trains all weights in bf16; give those, or --optimizer adamw-8bit"
            )
        return self

    @property
    def weights_dtype(self) -> str:
        """What the weights are loaded and trained in: full training keeps them in fp32 under bf16 autocast.

        At the field's learning rates steps that are rounded to bf16 come to nothing; not if they are rounded at random.
        """
        in_fp32 = self.adapter == "full" and self.optimizer != "adamw-bf16-sr"
        return "float32" if in_fp32 else self.settings.dtype

    @property
    def settings(self) -> Preset:
        """The settings of the preset, replaced where the run has its own."""
        preset = PRESETS[self.preset]
        rates = LEARNING_RATES[self.preset]
        batch = self.batch_pairs or preset.batch_pairs
        length = self.max_length or preset.max_length
        return replace(
            preset,
            budget=self.budget or preset.budget,
            batch_pairs=batch,
            micro_pairs=self.micro_pairs if isinstance(self.micro_pairs, int) else min(preset.micro_pairs, batch),
            learning_rate=self.learning_rate or (rates.lora if self.lora else rates.full),
            max_length=length,
            max_prompt=self.max_prompt or min(preset.max_prompt, length // 2),
            dtype=self.dtype or preset.dtype,
            cell_timeout=self.cell_timeout or preset.cell_timeout,
        )

    @property
    def lora(self) -> AdapterSetting | None:
        """The adapter that is trained; None: all weights are."""
        return AdapterSetting.parse(self.adapter)

    @property
    def checkpoint_seconds(self) -> float:
        """Seconds between checkpoints inside a cell."""
        return 60 * (self.checkpoint_every or CHECKPOINT_EVERY)

    @property
    def trial_learning_rates(self) -> tuple[float, float]:
        """The lowest and the highest learning rate of a trial, the same for every loss."""
        shared = self.settings.learning_rate
        return shared / RATE_FACTOR, shared * RATE_FACTOR

    def on(
        self,
        *,
        data: str | None = None,
        test: str | None = None,
        chat_template: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the run with what board keys call its data, template and local models (`called`); None: as now.

        Of models that have one name, one stays.
        """
        called = self._names if names is None else dict(names)
        first = {called.get(model, model): model for model in reversed(self.models)}
        run = self.model_copy(update={"models": tuple(model for model in self.models if model in first.values())})
        run._data = self._data if data is None else data
        run._test = self._test if test is None else test
        run._template = self._template if chat_template is None else chat_template
        run._names = called
        return run

    def known_as(self, other: Run) -> Self:
        """Return the run with the names that board keys have for the data, template and models of `other`."""
        return self.on(data=other._data, test=other._test, chat_template=other._template, names=other._names)

    def called(self, model: str) -> str:
        """Return what boards call a model: a local one by its content, any other as it was asked for."""
        return self._names.get(model, model)

    def decisive(self) -> BoardKey:
        """Return all settings that decide a result: the board's key, with the scorer as it was asked for.

        `trials`, `evaluate_at` and `judge` are not among them: they add to a run and leave its results as they are.
        """
        settings = self.settings
        return BoardKey(
            protocol=PROTOCOL,
            dataset=self._data or self.dataset,
            preset=self.preset,
            budget=settings.budget,
            adapter=self.adapter,
            start=self.called(self.start) if self.start else None,
            learning_rate=settings.learning_rate,
            batch_pairs=settings.batch_pairs,
            max_length=settings.max_length,
            max_prompt=settings.max_prompt,
            dtype=settings.dtype,
            scorer=self.scorer,
            evaluated_on=self.evaluate_on,
            control=self.control,
            reference_path=self.plain_path,
            lenient=self.lenient,
            limit=self.limit,
            data_seed=self.data_seed,
            **self._as_told(),
        )

    def _as_told(self) -> dict[str, Any]:
        """Return how data are read, noise, selection and optimiser, each where it is given: older keys have none."""
        told: dict[str, Any] = {"optimizer": self.optimizer if self.optimizer != "adamw" else None}
        told |= {"test": self.test and (self._test or self.test), "test_columns": self.test_columns}
        told |= {"columns": self.columns, "splits": self.splits, "pairs_from_labels": self.pairs_from_labels}
        told |= {"chat_template": self._template, "noise": self.noise, "select": self.select}
        return {name: value for name, value in told.items() if value}

    def as_json(self) -> dict[str, Any]:
        """Return every field under its key in files, JSON-ready: for the manifest."""
        return self.model_dump(mode="json", by_alias=True)

    def short_hash(self) -> str:
        """Return 10 hex digits over everything that decides the content of the run."""
        models = [self.called(model) for model in self.models]
        content = {**self.decisive().as_json(), "plugins": self.plugins, "models": models, "seeds": self.seeds}
        content |= {"evaluate_at": self.evaluate_at} if self.evaluate_at else {}  # folders made before have no points
        content |= {"report": self.report} if self.report != "end" else {}
        content |= {name: getattr(self, name) for name in GENERATION if self.generate}
        content |= {"prompts": self.prompts} if self.prompts else {}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    def as_toml(self) -> str:
        """Return the run file of this run; `read_run` gives the same run back."""
        return toml_text(self.as_json())


def make_run(values: dict[str, Any]) -> Run:
    """Return the run with these values. Raises `HarnessError`, one line, for the first one that is wrong."""
    try:
        return Run(**values)
    except ValidationError as error:
        raise wrong_value(error, list(Run.model_fields)) from None
