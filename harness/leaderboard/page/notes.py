"""What stands under the tables of the page: how to read them, how to reproduce each row, the protocol, the manifest."""

from __future__ import annotations

import shlex
from html import escape

from harness.leaderboard.formatting import number
from harness.leaderboard.hints import HOW_TO_READ, ONLY_ON_THE_PAGE, Hint, marked_up
from harness.leaderboard.page.manifest_facts import FactList, ManifestFacts
from harness.leaderboard.table import Board, Row

SETTINGS = (
    *("dataset", "test", "preset", "budget", "adapter", "start", "learning_rate", "batch_pairs", "max_length"),
    *("max_prompt", "dtype", "scorer", "control", "limit", "data_seed", "trials", "evaluated_on", "columns", "splits"),
    *("test_columns", "noise", "select", "optimizer"),
)
"""A board's settings that an option of `harness run` gives with a value."""
SWITCHES = ("reference_path", "lenient", "pairs_from_labels")
"""Those that an option without a value turns on."""
OTHER_NAMES = {"evaluated_on": "--evaluate-on", "reference_path": "--plain-path"}
"""Options whose names differ from the setting's."""


def how_to_read() -> str:
    """Return the hints as an HTML list."""
    hints = (*HOW_TO_READ, *ONLY_ON_THE_PAGE)
    return f"<ul>{''.join(f'<li>{_hint(hint)}</li>' for hint in hints)}</ul>"


def command(board: Board, *rows: Row) -> str:
    """Return the `harness run` that gives these rows: their losses alone, everything else as on the board."""
    words = [
        "harness",
        "run",
        "--plugins",
        ",".join(map(_plugin, rows)),
        "--models",
        ",".join(board.places.get(model, model) for model in board.models),
    ]
    seeds = sorted({seed for row in rows for seed in row.seeds}) or board.seeds or (0,)
    words += ["--seeds", ",".join(map(str, seeds))]
    for setting in SETTINGS:
        value = getattr(board.settings, setting)
        if setting == "dataset" and board.settings.knows_content:
            value = board.data or None
        if setting == "test":
            value = board.test_data or value
        if setting == "start":
            value = board.places.get(value, value)
        if value is not None and not (setting == "control" and value == "none"):
            words += [_flag(setting), str(value)]
    fractions = sorted({point.fraction for row in rows for point in row.points})
    if fractions:
        words += ["--evaluate-at", ",".join(f"{fraction:.10g}" for fraction in fractions)]
    if board.settings.chosen_from:
        chosen_from = ",".join(f"{fraction:.10g}" for fraction in board.settings.chosen_from)
        words += ["--evaluate-at", chosen_from, "--report", "best-on-dev"]
    words += _of_answers(board)
    words += [_flag(switch) for switch in SWITCHES if getattr(board.settings, switch)]
    return " ".join(map(shlex.quote, words))


def _plugin(row: Row) -> str:
    """Return what --plugins calls the loss of a row."""
    name, _, options = row.label.partition("(")
    return f"{name}:{options.removesuffix(')')}" if options else name


def _of_answers(board: Board) -> list[str]:
    """Return the options that the answers of a board were sampled by; none where there are none."""
    facts = board.answers.facts if board.answers else None
    if facts is None:
        return []
    values = {"generate": facts.prompts, "samples": facts.samples, "temperature": facts.temperature}
    values |= {"top_p": facts.top_p, "max_new_tokens": facts.max_new_tokens}
    words = [word for name, value in values.items() for word in (_flag(name), f"{value:.10g}")]
    return words + (["--prompts", facts.asked.source] if facts.asked else [])


def _flag(setting: str) -> str:
    return OTHER_NAMES.get(setting, f"--{setting.replace('_', '-')}")


def reproduce(board: Board, manifest: ManifestFacts) -> str:
    """Return the commands of a board's rows, with the options that each loss had and who brought it."""
    version = f"preference-harness=={manifest.harness}" if manifest.harness else "preference-harness"
    items = "".join(
        _command_item(board, row, manifest.owners.get(row.loss, "")) for row in board.rows if row.kind == "loss"
    )
    if not items:  # nothing was trained
        return ""
    return (
        "<details><summary>How to reproduce each row, and how long it took</summary>\n"
        f"<p>With <code>pip install {escape(version)}</code> and the versions under Manifest. The same command finds "
        "the same cells again; <code>base</code> and <code>longer-wins</code> come with every run.</p>\n"
        f'<ul class="commands">{items}</ul></details>'
    )


def _command_item(board: Board, row: Row, owner: str) -> str:
    brought = f" of {owner}" if owner else ""
    options = ", ".join(f"{name} = {value}" for name, value in row.options.items()) or "no options"
    seconds = number(row.spend.get("seconds"), ".1f", "")
    took = f"; {seconds} s of training per cell, on the machine that it ran on" if seconds else ""
    return (
        f"<li><strong>{escape(row.label)}</strong>{escape(brought)}: {escape(options)}{took}"
        f"<pre><code>{escape(command(board, row))}</code></pre></li>"
    )


def facts(manifest: ManifestFacts) -> str:
    """Return the manifest as lists of names and values, folded away."""
    if not manifest.lists:
        return "<p>This run has no manifest.json.</p>"
    lists = "".join(map(_fact_list, manifest.lists))
    summary = "<summary>Versions, hardware, data and settings</summary>"
    return f'<details>{summary}<div class="facts">{lists}</div></details>'


def _fact_list(facts: FactList) -> str:
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.facts)
    return f"<div><h3>{escape(facts.title)}</h3><dl>{items}</dl></div>"


def _hint(hint: Hint) -> str:
    return marked_up(
        hint,
        term=lambda text: f"<strong>{escape(text)}</strong>",
        code=lambda text: f"<code>{escape(text)}</code>",
        plain=escape,
    )
