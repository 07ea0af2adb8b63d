"""A run's records, manifest and table -> what was found, trained, scored and tested, on which versions, in sentences.

Every sentence is read from the records, and what no record says has none; what differs between cells is told with all
its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.leaderboard.answer_grids import sampled
from harness.leaderboard.decide.answers import FITTED, JudgeSummary
from harness.leaderboard.decide.estimates import Resampling
from harness.leaderboard.formatting import heading, smallest_difference
from harness.leaderboard.hints import BASELINE_ROWS, BRACKETS, COMMON_READINGS, RANK, RANKS_BY, REWARDS, Code, Term
from harness.leaderboard.page.notes import command
from harness.leaderboard.table import Board, Table
from harness.report.facts import data_in_words, distinct, either, options, trained_in_words, versions_in_words
from harness.report.pieces import Cite, Section, Sentence
from harness.report.references import Source
from harness.run_folder.manifest import Manifest
from harness.run_folder.record import Record
from harness.statistics.answer_metrics import EQUAL_LENGTH, EQUAL_STYLE
from harness.statistics.metrics import METRICS

INTERVALS = (
    "Shares have exact binomial intervals (Clopper and Pearson) and paired differences of shares Tango's score "
    "intervals, both at the number of independent pairs that the prompts are worth; all else has BCa bootstrap "
    "intervals of {resamples:,} resamples of prompts. Where there are several seeds, their spread is added (MOVER, "
    "Student's t)."
)
FITTED_ANEW = "At equal length and at equal style, where a model is fitted to each resample, they are {resamples:,}."


def protocol(
    table: Table, records: Sequence[Record], manifest: Manifest, sources: Mapping[str, Source]
) -> tuple[Section, ...]:
    """Return the sections of protocol.tex; `sources`: where each loss is from, by its label."""
    boards, trained = main_boards(table), [record for record in records if record.kind == "loss"]
    known = dict.fromkeys(sentence for board in boards for sentence in board.disclaimers)
    sections = (
        Section(title="Findings", sentences=tuple(_found(boards)), listed=True),
        Section(title="Training", sentences=_plain(trained_in_words(records)) if trained else ()),
        Section(title="Data", sentences=_plain(data_in_words(trained or records))),
        Section(title="Losses", sentences=tuple(_losses(trained, sources)), listed=True),
        Section(title="Scoring", sentences=(*_scoring(boards, records), *_readings(table.ranked_by))),
        Section(title="Statistics", sentences=(RANK, BRACKETS, *_plain(_tests(boards)))),
        Section(title="Versions", sentences=_plain(versions_in_words(records, manifest))),
        Section(title="To run it again", sentences=tuple(_again(boards)), listed=True),
        Section(title="To know", sentences=_plain(known), listed=True),
    )
    return tuple(section for section in sections if section.sentences)


def main_boards(table: Table) -> list[Board]:
    """Return of each setting the board over all models, or those of its models where there is none."""
    over_all = {board.settings for board in table.boards if board.model == "all"}
    return [board for board in table.boards if board.model == "all" or board.settings not in over_all]


def _plain(sentences: Iterable[str]) -> tuple[Sentence, ...]:
    return tuple((sentence,) for sentence in sentences)


def _found(boards: Sequence[Board]) -> Iterator[Sentence]:
    for board in boards:
        if board.conclusions:
            yield Term(board.title), f": {' '.join(board.conclusions)}"


def _losses(trained: Sequence[Record], sources: Mapping[str, Source]) -> Iterator[Sentence]:
    """Yield each loss with its options, who brings it, and where it is from."""
    for label in dict.fromkeys(record.label for record in trained):
        facts = [record.loss for record in trained if record.label == label]
        brought = either([f"{loss.plugin} {loss.version or ''}".strip() for loss in facts if loss.plugin])
        source = sources.get(label, Source())
        words = f"; source: {source.words.rstrip('.')}" if source.words else ""
        cites = [piece for reference in source.references for piece in (" ", Cite(reference.key))]
        yield Term(label), f": {options(facts)}{f'; from {brought}' if brought else ''}{words}", *cites, "."


def _scoring(boards: Sequence[Board], records: Sequence[Record]) -> Iterator[Sentence]:
    scored = [record for record in records if record.scored]
    for split in distinct(record.board.evaluated_on for record in scored):
        of = [board for board in boards if board.settings.evaluated_on == split and board.n_pairs]
        pairs = either([f"{board.n_pairs:,} pairs of {board.n_prompts:,} prompts" for board in of])
        if pairs:
            yield (f"Scored on {pairs} of the {split} split.",)
    for name, version in distinct((record.scorer.name, record.scorer.version) for record in scored):
        mine = [record.scorer for record in scored if (record.scorer.name, record.scorer.version) == (name, version)]
        parity = [scorer.parity_max_abs_nats for scorer in mine if scorer.parity_max_abs_nats is not None]
        beside = f", at most {max(parity):.2g} nats from transformers' where both were asked" if parity else ""
        if name:
            yield (f"The log-probs of the responses are those of {name} {version or ''}".rstrip() + f"{beside}.",)
    for words in distinct(sampled(board.answers) for board in boards if board.answers):
        yield (f"Generated: {words[0].lower()}{words[1:]}.",)
    yield from distinct(_asked(judge) for board in boards if board.answers for judge in board.answers.judges)


def _asked(judge: JudgeSummary) -> Sentence:
    asked = f"{judge.asked:,} {'ratings' if judge.rates else 'comparisons'}"
    return "Judge ", Term(judge.name), f": {asked}, of which {judge.unread:,} could not be read."


def _readings(ranked_by: str) -> tuple[Sentence, ...]:
    ranked = ("Losses are ranked by ", Term(heading(ranked_by)), f": {METRICS[ranked_by].summary}.")
    return ranked, REWARDS, COMMON_READINGS, RANKS_BY, BASELINE_ROWS


def _tests(boards: Sequence[Board]) -> Iterator[str]:
    yield INTERVALS.format(resamples=Resampling().resamples)
    answers = [row for board in boards if board.answers for row in board.answers.rows.values()]
    if any(name.partition("@")[0] in (EQUAL_LENGTH, EQUAL_STYLE) for row in answers for name in row.values):
        yield FITTED_ANEW.format(resamples=FITTED)
    for board in boards:
        detectable = smallest_difference(
            board.minimum_detectable_difference, board.minimum_detectable_planned, board.pairs_compared
        )
        if detectable:
            yield f"{detectable}{f' on {board.title}' if len(boards) > 1 else ''}."


def _again(boards: Sequence[Board]) -> Iterator[Sentence]:
    """Yield the command of each board on which something was trained."""
    for board in boards:
        rows = [row for row in board.rows if row.kind == "loss"]
        if rows:
            yield (Code(command(board, *rows)),)
