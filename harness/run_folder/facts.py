"""The parts of a record and of a manifest as frozen types. Imports no torch.

A key that this version does not know is kept and written back; a value of another kind is refused. Field names are the
keys of the files. `python -m harness.run_folder.record_table` prints the documentation of `record.json` made from here.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from harness.run_folder.json_types import Count, Facts, Number
from harness.run_folder.selection_facts import SelectionFacts


class LossFacts(Facts):
    """Which loss it was and who brought it."""

    name: str
    """The name it has on the command line; `base`, `longer-wins` or `trained elsewhere` of a row that is no loss's."""
    options: dict[str, Any]
    """All its options with their values."""
    needs_reference: bool = False
    """Whether it reads the start checkpoint's log-probs; so does its reward, unless the next key says otherwise."""
    reward_needs_reference: bool | None = None
    """Whether its reward is relative to the start checkpoint's log-probs; absent where `needs_reference` says it."""
    tags: tuple[str, ...] = ()
    """`pairwise`, `pointwise` or `unpaired`, and whether its log-probs are `summed` or `averaged`."""
    fails: tuple[str, ...] = ()
    """The rules of `harness plugins check` that it breaks; absent where it breaks none."""
    plugin: str | None = None
    """The distribution that brings it."""
    version: str | None = None
    """The version of that distribution."""
    source: str | None = None
    """The sha256 of the source of a loss, or of one in it, that was defined in Python; absent where all are installed.
    `plugin` and `version` of such a loss say `defined in <module>` and `source sha256 <hash>`."""

    @property
    def reference_based(self) -> bool:
        """Whether its reward is relative to the start checkpoint's log-probs."""
        return self.needs_reference if self.reward_needs_reference is None else self.reward_needs_reference

    @property
    def averaged(self) -> bool | None:
        """Whether it averages log-probs over tokens, from the tags; None where they do not say."""
        return "averaged" in self.tags if {"averaged", "summed"} & {*self.tags} else None


class TuningFacts(Facts):
    """Where the options of a tuned cell come from."""

    system: str
    """Label of the system whose options were sampled."""
    number: int
    """The trial, from 0."""
    options: dict[str, Any]
    """The options that were sampled."""
    trials: int | None = None
    """How many trials it was chosen from; null for a trial itself."""
    dev: Number = None
    """Its value on the development split, by which it was chosen; null where no trial had one."""


class ModelFacts(Facts):
    """The checkpoint that training started from."""

    name: str
    """As `--models` has it; of a local folder or GGUF file `<architecture>@<8 hex digits over its content>`."""
    preset: str = ""
    """`nano`, `tiny`, `small`, `medium`, `paper`, or `custom` for a model that somebody brought."""
    id: str | None = None
    """The hub id, folder or file it was made from."""
    revision: str | None = None
    """The hub's commit, the SHA-256 of a GGUF file, or the hash of what a nano model is made from."""
    parameters: Count = None
    """How many parameters it has."""
    fingerprint: str | None = None
    """Hash of its weights."""
    quantised: str = ""
    """The type of most weights of the GGUF file that it is from, as `Q4_1`; empty: the weights are the full ones."""
    base: str = ""
    """Of a LoRA adapter: the checkpoint that it was merged onto, with its commit where it has one."""


class ElsewhereFacts(Facts):
    """The checkpoint of a row that was trained elsewhere, and how it is read; absent from other records."""

    checkpoint: str
    """The folder, file or hub id, as it was named."""
    revision: str = ""
    """The hub's commit, or the SHA-256 of a GGUF file; empty for a folder."""
    fingerprint: str
    """Hash of its weights and its tokenizer."""
    parameters: Count = None
    """How many parameters it has."""
    quantised: str = ""
    """The type of most weights of the GGUF file that it is from, as `Q4_1`; empty: the weights are the full ones."""
    reward: str
    """What its own reward is: `log-ratio`, `mean`, `sum`, or the name of the loss that reads it."""
    options: dict[str, Any] = Field(default_factory=dict)
    """All options of that loss; empty for the others."""
    reference: str | None = None
    """What log-ratios are relative to, as it was named, or `the start checkpoint` of the model; null without one."""
    reference_fingerprint: str | None = None
    """Hash of its weights and its tokenizer."""


class OriginFacts(Facts):
    """Which data they are."""

    name: str
    """As `--test` has it."""
    source: str = ""
    """Where they were read from."""
    fingerprint: str
    """Hash of their content."""


class NoiseFacts(Facts):
    """What noise changed in the labels of training and dev pairs; absent where there is none."""

    setting: str
    """As `--noise` has it."""
    train_pairs: int
    """Training pairs of the data, before a model leaves out any."""
    train_changed: int
    """How many of them have another response chosen than before."""
    dev_pairs: int
    """Pairs of the development split."""
    dev_changed: int
    """How many of them have another response chosen than before."""

    @property
    def in_words(self) -> str:
        """What was changed, for the plan and boards."""
        parts = (self.train_changed, self.train_pairs, "training"), (self.dev_changed, self.dev_pairs, "dev")
        changed = [f"{n:,} of {of:,} {split} labels ({n / of:.1%})" for n, of, split in parts if of]
        return f"{self.setting} changes {' and '.join(changed)}, and none of the test split"


class DataFacts(Facts):
    """The preference data."""

    name: str = ""
    """As `--dataset` has it."""
    source: str = ""
    """Where it was read from, or the settings of the simulator."""
    fingerprint: str
    """Hash of its content."""
    train_pairs: Count = None
    """Training pairs that there are."""
    test_pairs: Count = None
    """Held-out pairs of the split that was scored, length-balanced pairs not counted."""
    truncated_pairs: Count = None
    """Training pairs that were cut to the longest length."""
    truncated_test_pairs: Count = None
    """Held-out pairs that were cut to the longest length."""
    seams_moved: Count = None
    """Training pairs whose responses have tokens of the generation prompt, where the whole conversation has others;
    absent where there are none."""
    seams_moved_test: Count = None
    """Held-out pairs whose responses have such tokens; absent where there are none."""
    template_day: str | None = None
    """The day that the model's chat template prints as today; absent where it prints none."""
    skipped: dict[str, int] = Field(default_factory=dict)
    """Rows that were left out, by reason."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Pairs this model did not see, by split and reason: refused by its template, the same tokens on both sides."""
    notes: tuple[str, ...] = ()
    """What a reader of results must know of the data."""
    tested_on: OriginFacts | None = None
    """The data set whose test split was scored; absent where it is the training data's own."""
    noise: NoiseFacts | None = None
    selection: SelectionFacts | None = None


class Spend(Facts):
    """What training the cell cost, in every currency; empty for baseline rows and failed cells."""

    pairs: Count = None
    """Pairs visited."""
    tokens: Count = None
    """Prompt and response tokens of both sides of every pair visited."""
    steps: Count = None
    """Optimiser steps."""
    flops: Number = None
    """Floating-point operations, reference and extra passes included."""
    seconds: Number = None
    """Wall-clock seconds of training, the reference pass included even where it was cached."""
    peak_memory_bytes: Count = None
    """Highest memory during training: the accelerator's, or what the process held more than before the cell."""
    micro_pairs: Count = None
    """Pairs that went through the model at once in the end; absent unless memory did not hold as many as asked."""
    activations_recomputed: bool | None = None
    """Whether activations were computed again in the backward pass, which changes no result; absent where not."""
    epochs: Number = None
    """Pairs visited / training pairs."""
    selection_flops: Number = None
    """Share of `flops` that choosing the training pairs took, `--select`; absent where all were kept."""
    selection_seconds: Number = None
    """Its share of `seconds`, in full for every cell; absent where all were kept."""
    reference_seconds: Number = None
    """The reference pass's share of `seconds`."""
    reference_cached: bool | None = None
    """Whether the reference log-probs were there before."""


class ScorerFacts(Facts):
    """Who computed the log-probs of the held-out responses."""

    name: str | None = None
    """`vllm`, `transformers` or a plugin's."""
    version: str | None = None
    """The version of its library."""
    note: str = ""
    """Why this scorer, where it is not the first choice."""
    parity_max_abs_nats: Number = None
    """Largest difference to the transformers scorer over a few responses, nats; null without a second scorer."""
    seconds: Number = None
    """Seconds that scoring the cell took."""


class EnvironmentFacts(Facts):
    """Versions, hardware, and what ran beside the cell."""

    harness: str | None = None
    """Version of the harness."""
    python: str | None = None
    """Version of Python."""
    torch: str | None = None
    """Version of torch."""
    transformers: str | None = None
    """Version of transformers."""
    torchao: str | None = None
    """Version of torchao; absent where the optimiser is not one of its own."""
    platform: str | None = None
    """Operating system and processor architecture."""
    device: str | None = None
    """`cpu`, or the name of the accelerator."""
    processor: str | None = None
    """The kind of CPU, which decides the last digits: its name, family, model and what torch uses of it."""
    threads: Count = None
    """Threads of the worker process."""
    gemm: str | None = None
    """Library of fp32 matrix products: `default` or `onednn`."""
    processes: Count = None
    """How many trained each cell together; absent where that is one."""
    models_side_by_side: int = 1
    """Models that were computed at the same time on this machine."""
    path: str | None = None
    """`fast`, or `plain` where training ran on padded rows with full logits."""
    shared: dict[str, Number] | None = None
    """Of the row `base`: seconds spent once for all cells of the model, and what that saved."""
