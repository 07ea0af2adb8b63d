"""A run folder -> a data set folder for the Hugging Face hub: card, rows and responses of all cells, leaderboards.

Its README's front matter declares two configurations, so `datasets.load_dataset(FOLDER, "responses")` finds them; the
leaderboards are files beside them, because all configurations of a data set must have the same file format.
Imports no torch, and not `datasets` either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

import harness
from harness.leaderboard import markdown, renders
from harness.leaderboard.formatting import markdown_table, markdown_text
from harness.leaderboard.table import Table
from harness.run_folder.paths import (
    GENERATIONS,
    JUDGEMENTS,
    POINTS,
    RESPONSES,
    ROWS,
    answers_folder,
    axis_of,
    judgements_files,
)
from harness.run_folder.record import Record
from harness.run_folder.tables import RESPONSE_COLUMNS, ROW_COLUMNS, SUBSET, read_judgements

if TYPE_CHECKING:
    import pandas as pd

OF_THE_CELL: Mapping[str, str] = {
    "cell": "the cell's key: loss with options, model and seed",
    "model": "short name of the model",
    "model_id": "the start checkpoint",
    "loss": "name of the loss; `base`, `longer-wins` or `trained elsewhere` of a row that is no loss's",
    "label": "the loss with the options that were given",
    "options": "all options of the loss, JSON",
    "learning_rate": "of the training; missing for rows that the run did not train",
    "trials": "from how many trials on the development split options and learning rate were chosen; 0: not tuned",
    "axis": "what sets the cell's board apart from the first one of a run with axes, as budget=pairs=512; else empty",
    "kind": "`loss`, `reference` or `elsewhere`",
    "seed": "seed of the order of pairs; missing for rows that the run did not train",
}
"""Columns put before those of the tables, with their meaning."""
MEANING: Mapping[str, str] = {
    "pair_id": "the pair, the same in every cell",
    "prompt_id": "the prompt; the unit that intervals resample",
    "response_id": "the response, the same in every cell",
    "split": "`test`, `dev`, or `test_lenbalanced`: pairs of like length",
    "score_chosen, score_rejected, score": "annotation score, as the data has it",
    "gap": "score_chosen - score_rejected",
    "chosen_sum_logp, rejected_sum_logp, sum_logp": "summed log-prob under the trained model, nats, prompt excluded",
    "chosen_tokens, rejected_tokens, tokens": "tokens of the response, end-of-turn included",
    "ref_chosen_sum_logp, ref_rejected_sum_logp, ref_sum_logp": "the same under the start checkpoint, nats",
    "reward_chosen, reward_rejected, reward": "the loss's own implicit reward, in its own scale",
    "chosen_characters, rejected_characters, characters": "length of the response's text",
    "true_chosen, true_rejected, true_quality": "true quality, known on simulated data only",
    "chosen_response_id, rejected_response_id": "the responses of a pair",
    SUBSET: "the part of the data that the pair belongs to, where the data have parts",
    "listwise": "whether the response is of the listwise data",
}
"""Columns of the tables, with their meaning."""
OF_POINTS = (
    "`points_rows`, `points_responses`: the same at points along the run, `fraction` of the budget spent; at 1 those "
    "above. An early point is not a finished shorter run: its learning rate has not decayed."
)
OF_ANSWERS = (
    "`generations`, and `points_generations` at points along the run: what the models answered held-out prompts, with "
    "tokens, log-probs under model and start checkpoint in nats, both estimates of the KL divergence; `answer_seed` is "
    "the seed that it was sampled by."
)
OF_JUDGEMENTS = (
    "`judgements`: what judges said of the answers, a row per question, at 1 and at other `fraction`s of the budget; "
    "`preference` is for the cell's answer over that of `against`, `rating` of a single one."
)
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"))  # fmt: skip


def tables(records: Sequence[Record]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows and the responses of all scored cells, each with `OF_THE_CELL` before it, in the order given."""
    import pandas as pd

    scored = [record for record in records if record.scored]
    of_pairs = [record.rows() for record in scored]
    names = [*ROW_COLUMNS, *([SUBSET] if any(SUBSET in rows for rows in of_pairs) else [])]
    rows = [_labelled(record, table.reindex(columns=names)) for record, table in zip(scored, of_pairs, strict=True)]
    responses = [_labelled(record, record.responses()[list(RESPONSE_COLUMNS)]) for record in scored]
    return pd.concat(rows, ignore_index=True), pd.concat(responses, ignore_index=True)


def point_tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """Return the tables of all points along the runs, by path, the column `fraction` first; none without points."""
    import pandas as pd

    parts: dict[str, list[pd.DataFrame]] = {}
    for at, fraction in [(record.at(point), point.fraction) for record in records for point in record.points]:
        for name, table in zip((ROWS, RESPONSES), tables([at]), strict=True):
            table.insert(0, "fraction", fraction)
            parts.setdefault(f"data/{POINTS}_{name}", []).append(table)
    return {path: pd.concat(of_path, ignore_index=True) for path, of_path in parts.items()}


def answer_tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """Return the answers of all cells, and of all points along the runs with their `fraction`, by path; none without.

    At 1, the end, the answers of a point are the cell's own.
    """
    import pandas as pd

    answered = [record for record in records if record.scored and record.generation]
    own = [_answers(record, 1) for record in answered]
    at_points = [(record, point.fraction) for record in answered for point in record.points]
    points = [_answers(record, fraction) for record, fraction in at_points]
    for table, (_, fraction) in zip(points, at_points, strict=True):
        table.insert(0, "fraction", fraction)
    parts = {f"data/{GENERATIONS}": own, f"data/{POINTS}_{GENERATIONS}": points}
    return {path: pd.concat(tables, ignore_index=True) for path, tables in parts.items() if tables}


def judgement_tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """Return what judges said of the answers of all cells and points, by path; nothing without judges."""
    import pandas as pd

    parts = []
    for record in records:
        for fraction in (1.0, *(point.fraction for point in record.points if point.fraction < 1)):
            for path in judgements_files(answers_folder(record.folder, fraction)):
                table = _labelled(record, read_judgements(path))
                table.insert(0, "fraction", fraction)
                parts.append(table)
    return {f"data/{JUDGEMENTS}.parquet": pd.concat(parts, ignore_index=True)} if parts else {}


def _answers(record: Record, fraction: float) -> pd.DataFrame:
    import pandas as pd

    table = pd.read_parquet(answers_folder(record.folder, fraction) / GENERATIONS)
    return _labelled(record, table.rename(columns={"seed": "answer_seed"}))


def _labelled(record: Record, table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    own = pd.DataFrame(
        {
            "cell": record.key,
            "model": record.model.name,
            "model_id": record.model.id or "",
            "loss": record.loss.name,
            "label": record.label,
            "options": json.dumps(record.loss.options, sort_keys=True),
            "learning_rate": np.nan if record.learning_rate is None else float(record.learning_rate),
            "trials": record.board.trials or 0,
            "axis": axis_of(record.folder),
            "kind": record.kind,
            "seed": pd.array([record.seed] * len(table), dtype="Int64"),
        },
        index=table.index,
    )
    return pd.concat([own, table], axis=1)


def card(table: Table, records: Sequence[Record], n_rows: int, n_responses: int) -> str:
    """Return README.md: the front matter that the hub and `datasets` read, then what the data is, for people."""
    data = sorted({record.dataset.name for record in records})
    name = f"Preference losses on {', '.join(data)}"
    board = markdown.render(table).replace("\n## ", "\n### ").replace("# Leaderboard", "## Leaderboard", 1)
    return "\n".join(
        [
            *_front_matter(name, n_rows + n_responses, records),
            f"\n# {markdown_text(name)}\n",
            "Held-out responses scored under models that were trained with different preference losses, everything "
            "else alike, and the leaderboards that follow.\n",
            *map(markdown_text, _origin(table, records, data)),
            f"\n```python\n{_example()}\n```\n",
            f"## Columns\n\n`rows`: {n_rows:,} held-out pairs; `responses`: {n_responses:,} held-out responses; "
            "unknown numbers are NaN.\n",
            *_columns(),
            *([f"\n{OF_POINTS}"] if any(record.points for record in records) else []),
            *([f"\n{OF_ANSWERS}"] if any(record.generation for record in records) else []),
            *([f"\n{OF_JUDGEMENTS}"] if _judged(records) else []),
            "\n## License\n\nNone is set: ids and scores come from the data set above, log-probs from the models "
            "above. See what their licenses ask, then set `license` in the front matter.\n",
            board,
        ]
    )


def _front_matter(name: str, size: int, records: Sequence[Record]) -> list[str]:
    points = any(record.points for record in records)
    answers = any(record.scored and record.generation for record in records)
    further = [f"{POINTS}_{ROWS}", f"{POINTS}_{RESPONSES}"] if points else []
    further += [GENERATIONS, *([f"{POINTS}_{GENERATIONS}"] if points else [])] if answers else []
    further += [f"{JUDGEMENTS}.parquet"] if _judged(records) else []
    return [
        "---",
        f"pretty_name: {json.dumps(name, ensure_ascii=False)}",
        "# license: choose one before you push; see License below",
        "tags:",
        *(f"- {tag}" for tag in ("preference-optimization", "leaderboard", "preference-harness")),
        f"size_categories:\n- {next((category for bound, category in SIZES if size < bound), 'n>10M')}",
        "configs:",
        f"- config_name: rows\n  default: true\n  data_files: data/{ROWS}",
        f"- config_name: responses\n  data_files: data/{RESPONSES}",
        *(f"- config_name: {name.partition('.')[0]}\n  data_files: data/{name}" for name in further),
        "---",
    ]


def _judged(records: Sequence[Record]) -> bool:
    return any(judgements_files(record.folder) for record in records)


def _origin(table: Table, records: Sequence[Record], data: Sequence[str]) -> list[str]:
    """Return where the data comes from, a sentence or two per line."""
    models = sorted({record.model.id or record.model.name for record in records})
    fingerprints = sorted({record.dataset.fingerprint for record in records})
    without_rows = sorted(record.key for record in records if not record.scored)
    return [
        f"Written by preference-harness {harness.__version__}, protocol {table.protocol}, from {len(records)} cells.",
        f"Data: {', '.join(data)} (fingerprint {', '.join(fingerprints)}). Models: {', '.join(models)}.",
        *([f"Without rows, because they failed or diverged: {', '.join(without_rows)}."] if without_rows else []),
        "No prompt and no response of the data is in here, only their ids and numbers.",
    ]


def _example() -> str:
    return (
        "from datasets import load_dataset\n\n"
        'rows = load_dataset("THIS_REPOSITORY", "rows", split="train")  # every row was held out from training\n'
        'responses = load_dataset("THIS_REPOSITORY", "responses", split="train")'
    )


def _columns() -> list[str]:
    columns = {**OF_THE_CELL, **MEANING}
    rows = [[", ".join(f"`{name}`" for name in names.split(", ")), meaning] for names, meaning in columns.items()]
    return markdown_table(["column", "meaning"], rows)


def files(table: Table, records: Sequence[Record]) -> tuple[dict[str, str], dict[str, pd.DataFrame]]:
    """Return the folder's texts and its data frames, by path."""
    rows, responses = tables(records)
    texts = {"README.md": card(table, records, len(rows), len(responses)), **renders(table)}
    frames = {f"data/{ROWS}": rows, f"data/{RESPONSES}": responses}
    return texts, frames | point_tables(records) | answer_tables(records) | judgement_tables(records)
