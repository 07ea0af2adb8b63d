"""What may be asked of a run: the fields of a run file, each with its meaning and its check."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from harness.planning.budget import fractions
from harness.planning.presets import PresetName
from harness.planning.run_toml import PLAIN_PATH_KEY
from harness.run_folder.adapter_setting import canonical
from harness.run_folder.label_noise import NoiseSetting


class RunFields(BaseModel):
    """What may be given, and which values go together. Fields, with dashes, are keys of run.toml and flags."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    plugins: str = "all"
    """Losses: `all`, a list, `all,-cpo`, options as `simpo:beta=2.5,gamma=1.0`, a system per value as `beta=1|2`."""
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
    adapter: str = "full"
    """`full`, or an adapter: `lora`, `lora:r=16,alpha=32,targets=q_proj+v_proj`, `qlora` with the same options."""
    start: str | None = None
    """A tuned checkpoint to start from, instead of the SFT stage."""
    learning_rate: float | None = Field(default=None, gt=0)
    batch_pairs: int | None = Field(default=None, ge=1)
    micro_pairs: int | Literal["auto"] | None = None
    """`auto`: as many as are estimated to fit the device."""
    max_length: int | None = Field(default=None, ge=8)
    max_prompt: int | None = Field(default=None, ge=4)
    dtype: Literal["float32", "bfloat16"] | None = None
    optimizer: Literal["adamw", "adamw-8bit", "adamw-bf16-sr"] = "adamw"
    """`adamw` in fp32; `adamw-8bit` has its moments in 8 bits, `adamw-bf16-sr` the weights in bf16 too."""
    activation_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Compute activations again in the backward pass, which changes no result; `auto`: where they may not fit."""
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
    noise: str | None = None
    """Noise in the labels of training and dev pairs: `flip=0.1`, `near-ties=`, `longer-wins=` or `gaussian=`."""
    select: str | None = None
    """Which training pairs are trained on: `NAME` or `NAME:share=0.4,...` of a selector; None: all of them."""
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
    checkpoint_every: float | None = Field(default=None, gt=0)
    """Minutes of a training after which it is kept, to go on from there when it is stopped; None: `CHECKPOINT_EVERY`.

    It changes no result.
    """
    ranked_by: str = "pairwise_accuracy@learned"

    @field_validator("micro_pairs", mode="before")
    @classmethod
    def _pairs_or_auto(cls, value: Any) -> Any:
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if number in (None, "auto") or (type(number) is int and number >= 1):
            return number
        raise ValueError("expected a whole number of at least 1, or auto")

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

    @field_validator("adapter")
    @classmethod
    def _an_adapter(cls, adapter: str) -> str:
        return canonical(adapter)

    @field_validator("noise")
    @classmethod
    def _a_dial(cls, noise: str | None) -> str | None:
        setting = None if noise is None else NoiseSetting.parse(noise)
        return str(setting) if setting else None

    @field_validator("select")
    @classmethod
    def _a_selector(cls, select: str | None) -> str | None:
        return None if select is None or select.strip() == "none" else select.strip()

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
    def _answers_to_judge(self) -> Self:
        if self.judge and not self.generate:
            raise ValueError("got --judge without --generate, expected both: a judge reads what models answered")
        if self.prompts and not self.generate:
            raise ValueError("got --prompts without --generate, expected both: how many of the prompts are answered")
        return self
