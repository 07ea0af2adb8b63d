"""A run, as one validated value: from a TOML file, from flags, or both (flags win)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from harness.planning.budget import fractions
from harness.planning.generation import GENERATION
from harness.planning.presets import LEARNING_RATES, PRESETS, Preset, PresetName
from harness.planning.run_errors import wrong_value
from harness.planning.run_toml import PLAIN_PATH_KEY, toml_text
from harness.run_folder.board_key import BoardKey

PROTOCOL = 1
"""Version of the rules of measuring: a table takes records of one only. Raise it when what is measured changes."""
RATE_FACTOR = 4.0
"""Trials draw the learning rate from 1 / 4 to 4 times the shared one, log-uniform: the same range for every loss."""


class Run(BaseModel):
    """Everything that decides a result. Fields, with dashes, are keys of run.toml and flags of `harness run`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    plugins: str = "all"
    """Losses: `all`, a list, `all,-cpo`, options as `simpo:beta=2.5,gamma=1.0`."""
    models: tuple[str, ...] = ("qwen",)
    """Families (qwen, gemma, mistral, llama), smollm2, hub ids, local folders or .gguf files."""
    dataset: str = "embedded"
    """`embedded`, `ultrafeedback`, a name that a plugin brings, a local folder or file, or `org/name` on the hub."""
    test: str | None = None
    """Another data set, as for `dataset`, whose test split is scored instead of that of `dataset`."""
    preset: PresetName = "nano"
    """Of models that are not made here: by their size, where it is not given; see `execute/default_preset.py`."""
    budget: str | None = None
    """`pairs=N`, `tokens=N`, `steps=N`, `flops=N` or `seconds=N`; None: the preset's."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Each seed is another order of pairs from the same start checkpoint."""
    scorer: str = "auto"
    """`auto` (vllm where it can run, else transformers), or the name of a scorer."""
    adapter: Literal["full", "lora"] = "full"
    start: str | None = None
    """A tuned checkpoint to start from, instead of the SFT stage."""
    learning_rate: float | None = Field(default=None, gt=0)
    batch_pairs: int | None = Field(default=None, ge=1)
    micro_pairs: int | None = Field(default=None, ge=1)
    max_length: int | None = Field(default=None, ge=8)
    max_prompt: int | None = Field(default=None, ge=4)
    dtype: Literal["float32", "bfloat16"] | None = None
    evaluate_at: tuple[float, ...] = ()
    """Fractions of the budget at which the weights are scored; the end, 1, is then one of them."""
    generate: int = Field(default=0, ge=0)
    """Held-out prompts that every model answers; 0: none."""
    prompts: str | None = None
    """What is answered in the place of held-out prompts: a file, `alpaca_eval`, `arena_hard` or `mt_bench`."""
    samples: int = Field(default=1, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=256, ge=1)
    judge: tuple[str, ...] = ()
    """Judges of the answers, each `NAME` or `NAME:WHAT`; they change no training, and `harness judge` asks the same."""
    judge_repeats: int = Field(default=1, ge=1)
    max_requests: int | None = Field(default=None, ge=0)
    """The most requests that a judge may be sent; None: as many as there are."""
    evaluate_on: Literal["test", "dev"] = "test"
    """The split that is scored; `dev` is for choosing settings."""
    report: Literal["end", "best-on-dev"] = "end"
    """`best-on-dev` scores every point on dev too, and adds a board of each cell at its best one, reported on test."""
    trials: int = Field(default=0, ge=0)
    """Configurations tried per loss and model; the best on dev is trained anew. 0: no tuning."""
    control: Literal["none", "shuffled-labels"] = "none"
    """`shuffled-labels` swaps chosen and rejected in half of the visited training pairs: nothing can be learned."""
    plain_path: bool = Field(
        default=False,
        validation_alias=AliasChoices("plain_path", PLAIN_PATH_KEY),
        serialization_alias=PLAIN_PATH_KEY,
    )
    """Train on padded rows and full logits, the plain way, to check the fast path, which gives the same numbers.

    In files and hashes its key stays `PLAIN_PATH_KEY`, so that folders made before still open.
    """
    lenient: bool = False
    chat_template: str | None = None
    """A Jinja file used in the place of the tokenizers' own chat templates."""
    columns: str | None = None
    """`prompt=question,chosen=best`: which columns of the data are what, where their names do not say so."""
    splits: str | None = None
    """`train=NAME,test=NAME`: which splits of the data are what, where their names are not the usual ones."""
    test_columns: str | None = None
    """As `columns`, of the data set in `test`."""
    pairs_from_labels: bool = False
    """Pair the good and the bad completions of a prompt where the data has one labelled completion a row."""
    also: tuple[str, ...] = ()
    """Checkpoints trained elsewhere, which get a row beside the losses: folders or hub ids."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many training pairs, and this many held-out pairs per split; for trying things out."""
    data_seed: int = Field(default=0, ge=0)
    """Seed of the simulator and of the splits we draw."""
    trust_remote_code: bool = False
    cell_timeout: float | None = Field(default=None, gt=0)
    ranked_by: str = "pairwise_accuracy@learned"
    _data: str = PrivateAttr(default="")
    """What board keys call the data; "" for the name or path in `dataset`."""
    _test: str = PrivateAttr(default="")
    """Likewise for the data in `test`."""
    _template: str = PrivateAttr(default="")
    """Likewise for the chat template; "" where none is given."""
    _names: dict[str, str] = PrivateAttr(default_factory=dict)
    """What boards and their keys call local models, by the path that `models` and `start` have."""

    @field_validator("judge")
    @classmethod
    def _each_once(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(values))

    @field_validator("models", "seeds")
    @classmethod
    def _not_empty_or_doubled(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            raise ValueError("expected at least one")
        if len(set(values)) != len(values):
            raise ValueError("expected no value twice")
        return values

    @field_validator("evaluate_at")
    @classmethod
    def _fractions(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return fractions(values)

    @field_validator("report")
    @classmethod
    def _chosen_from_points(cls, report: str, before: ValidationInfo) -> str:
        if report != "end" and len(before.data.get("evaluate_at") or ()) < 2:
            raise ValueError("expected --evaluate-at with a point before the end, such as 0.5,1, to choose from")
        if report != "end" and before.data.get("evaluate_on") == "dev":
            raise ValueError("expected --evaluate-on test: what is chosen on dev is not reported on it")
        return report

    @field_validator("trials")
    @classmethod
    def _chosen_on_dev_and_reported_on_test(cls, trials: int, before: ValidationInfo) -> int:
        if trials and before.data.get("evaluate_on") == "dev":
            raise ValueError("expected 0 with --evaluate-on dev, the split that trials are chosen on")
        return trials

    @model_validator(mode="after")
    def _answers_to_judge(self) -> Run:
        if self.judge and not self.generate:
            raise ValueError("got --judge without --generate, expected both: a judge reads what models answered")
        if self.prompts and not self.generate:
            raise ValueError("got --prompts without --generate, expected both: how many of the prompts are answered")
        return self

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Run:
        settings = self.settings
        if settings.batch_pairs % settings.micro_pairs:
            raise ValueError(
                f"--micro-pairs got {settings.micro_pairs}, expected a divisor of the {settings.batch_pairs} pairs of "
                "a step (--batch-pairs); change one of the two"
            )
        return self

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
            micro_pairs=self.micro_pairs or min(preset.micro_pairs, batch),
            learning_rate=self.learning_rate or (rates.lora if self.adapter == "lora" else rates.full),
            max_length=length,
            max_prompt=self.max_prompt or min(preset.max_prompt, length // 2),
            dtype=self.dtype or preset.dtype,
            cell_timeout=self.cell_timeout or preset.cell_timeout,
        )

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
            **self._data_as_told(),
        )

    def _data_as_told(self) -> dict[str, Any]:
        """Return the settings that say how files are read, where they are given: keys made before have none."""
        told: dict[str, Any] = {"test": self.test and (self._test or self.test), "test_columns": self.test_columns}
        told |= {"columns": self.columns, "splits": self.splits, "pairs_from_labels": self.pairs_from_labels}
        told["chat_template"] = self._template
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
