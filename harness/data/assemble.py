"""The tables of a source -> a `Dataset`: missing splits carved from train, held-out prompts kept out of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from harness.api import Dataset, HarnessError, Listwise, LoadOptions, Pair
from harness.data.evaluation import not_taken
from harness.data.prompts import PromptSet, Row, carve, without
from harness.data.raw import Table, counted, printable
from harness.data.rows import Kind, Loaded, listwise_of, pairs_of, sft_of
from harness.data.splits import TEST_ROLES, no_test_data, no_training_data

LISTWISE = ("listwise_train", "listwise_dev", "listwise_test")
HELD_OUT_SHARE = 10
"""A split without a file of its own gets one training prompt in this many."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The splits of a data set, found and not yet read."""

    name: str
    source: str
    tables: Mapping[str, Callable[[], Table]]
    """By name of the split, a function that reads it: so only one table is in memory at a time."""
    names: tuple[str, ...]
    """What the splits are called where they are from."""
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Account:
    """Rows skipped and notes so far; filled while a data set is assembled."""

    parts: Parts
    options: LoadOptions
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    taken_for: dict[str, str] = field(default_factory=dict)
    """The layout of each split of pairs."""
    lists: list[Listwise] = field(default_factory=list)
    """The rated completions that pairs were made from."""

    def pairs(self, role: str) -> tuple[Pair, ...]:
        """Return the pairs of a split, after noting their layout and keeping the lists they were made from."""
        if role not in self.parts.tables:
            return ()
        loaded = pairs_of(self.parts.tables[role](), self.options)
        if loaded.taken_for:
            self.taken_for[role] = loaded.taken_for
        self.lists += loaded.listwise
        return self.take(loaded)

    def listwise(self, role: str) -> tuple[Listwise, ...]:
        """Return the scored lists of a split."""
        tables = self.parts.tables
        return self.take(listwise_of(tables[role](), self.options)) if role in tables else ()

    def say_what_was_read(self) -> None:
        """Put a note in front for each layout: what the files were taken for."""
        said = dict.fromkeys(self.taken_for.values())
        for words in said:
            roles = [role for role, taken in self.taken_for.items() if taken == words]
            said[words] = f" ({', '.join(roles)})" if len(said) > 1 else ""
        self.notes[:0] = [f"taken for: {words}{of}" for words, of in said.items()]

    def lists_of(self, pairs: tuple[Pair, ...]) -> tuple[Listwise, ...]:
        """Return the rated completions of the prompts of these pairs."""
        prompts = {pair.prompt_id for pair in pairs}
        return tuple(each for each in self.lists if each.prompt_id in prompts)

    def take(self, loaded: Loaded[Kind]) -> tuple[Kind, ...]:
        """Return the rows, after adding their counts and notes to the account."""
        self.skipped.update(loaded.skipped)
        self.notes += loaded.notes
        return loaded.rows

    def carve(
        self, pairs: tuple[Pair, ...], split: str, prompts: int, seed: int
    ) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
        """Return (the rest, the pairs of `prompts` prompts), after noting that the split is carved from train."""
        rest, carved = carve(pairs, prompts=prompts, purpose=split, seed=seed)
        got = f"{counted(_prompt_count(carved), 'prompt')}, {counted(len(carved), 'pair')}"
        self.notes.append(f"{split}: no such data, so carved from train by prompt with seed {seed} ({got})")
        return rest, carved

    def drop(self, rows: tuple[Row, ...], split: str, prompts: PromptSet, held_out: str) -> tuple[Row, ...]:
        """Return the rows that share no prompt with a held-out split, after counting the others."""
        kept = without(rows, prompts)
        if dropped := len(rows) - len(kept):
            self.skipped[f"{split} prompt also in {held_out}"] += dropped
            self.notes.append(
                f"{split}: {counted(dropped, 'row')} dropped, their prompt is also in the {held_out} split"
            )
        return kept


def assemble(parts: Parts, options: LoadOptions) -> Dataset:
    """Return the data set of these tables, missing splits carved from train, held-out prompts kept out of training.

    Raises `HarnessError` for an evaluation set: a test split is no training data.
    """
    if "train" not in parts.tables:
        raise no_training_data(parts.source, parts.names)
    tables, account = parts.tables, _Account(parts=parts, options=options, notes=list(parts.notes))
    train, dev = account.pairs("train"), account.pairs("dev")
    test, lenbalanced = account.pairs("test"), account.pairs("test_lenbalanced")
    listwise_train, listwise_dev, listwise_test = map(account.listwise, LISTWISE)
    sft = account.take(sft_of(tables["sft"](), options)) if "sft" in tables else ()
    account.say_what_was_read()

    prompts = _prompt_count(train)
    if "test" not in tables and options.needs_test:
        at_least = min(1, prompts - 1)  # a single prompt stays in train
        train, test = account.carve(train, "test", max(at_least, prompts // HELD_OUT_SHARE), options.seed)
    listwise_test = listwise_test or account.lists_of(test)
    held_out = PromptSet.of([*test, *lenbalanced, *listwise_test])
    train = account.drop(train, "train", held_out, "test")
    dev = account.drop(dev, "dev", held_out, "test")
    listwise_dev = account.drop(listwise_dev, "listwise dev", held_out, "test")
    if "dev" not in tables:
        prompts = _prompt_count(train) if "test" in tables else prompts
        train, dev = account.carve(train, "dev", prompts // HELD_OUT_SHARE, options.seed)
    listwise_dev = listwise_dev or account.lists_of(dev)
    selection = PromptSet.of([*dev, *listwise_dev])
    train = account.drop(train, "train", selection, "dev")
    listwise_train = without(without(listwise_train, held_out), selection) or account.lists_of(train)
    sft = account.drop(account.drop(sft, "sft", held_out, "test"), "sft", selection, "dev")
    if not train:
        raise HarnessError(
            f"{printable(parts.source)}: got no training pair whose prompt is not also held out, expected at "
            "least one; give other test or dev data"
        )
    return Dataset(
        name=parts.name,
        train=train,
        dev=dev,
        test=test,
        test_lenbalanced=lenbalanced,
        listwise_train=listwise_train,
        listwise_dev=listwise_dev,
        listwise_test=listwise_test,
        sft=tuple((row.context, row.response) for row in sft),
        skipped=dict(account.skipped),
        notes=tuple(account.notes),
        source=parts.source,
    )


def assemble_test(parts: Parts, options: LoadOptions) -> Dataset:
    """Return the test data of these tables: an evaluation set."""
    if "test" not in parts.tables:
        raise no_test_data(parts.source, parts.names)
    account = _Account(parts=parts, options=options, notes=list(parts.notes))
    test, lenbalanced = account.pairs("test"), account.pairs("test_lenbalanced")
    listwise_test = account.listwise("listwise_test") or account.lists_of(test)
    account.say_what_was_read()
    unused = [role for role in parts.tables if role not in TEST_ROLES]
    if unused:
        account.notes.append(not_taken(unused))
    return Dataset(
        name=parts.name,
        train=(),
        dev=(),
        test=test,
        test_lenbalanced=lenbalanced,
        listwise_test=listwise_test,
        skipped=dict(account.skipped),
        notes=tuple(account.notes),
        source=parts.source,
    )


def _prompt_count(pairs: Iterable[Pair]) -> int:
    return len({pair.prompt_id for pair in pairs})
