"""Ten tamperings of a run folder, each with hashes, metrics and boards put right where that helps to hide it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from judged_run import made

from harness.exchange.verify import run_verify
from harness.leaderboard import write
from harness.run_folder.hashes import file_hash
from harness.run_folder.store import read_record
from harness.statistics.summary import summarise

SIMPO, DPO, BASE = "qwen--simpo--5ca962--seed0", "qwen--dpo_beta=0.2--dfd14f--seed0", "qwen--base--5ac4d2"
Tables = tuple[pd.DataFrame, pd.DataFrame]


def edit(path: Path, **change: Any) -> None:
    """Change values of a JSON file; `a__b` is b of a."""
    content = json.loads(path.read_text())
    for name, value in change.items():
        *above, last = name.split("__")
        place = content
        for each in above:
            place = place[each]
        place[last] = value
    path.write_text(json.dumps(content))


def hide(run: Path, cell: str, change: Callable[[pd.DataFrame, pd.DataFrame], Tables]) -> None:
    """Change the tables of a cell, and have hashes, metrics and boards say what they now give."""
    folder = run / "cells" / cell
    rows, responses = (pd.read_parquet(folder / name) for name in ("rows.parquet", "responses.parquet"))
    owner = dict(rows.attrs)
    tables = change(rows, responses)
    for name, table in zip(("rows.parquet", "responses.parquet"), tables, strict=True):
        table.attrs = owner
        table.to_parquet(folder / name, index=False)
    record = read_record(folder)
    metrics, reasons = summarise(*tables, record.averaged)
    finite = {name: value if np.isfinite(value) else None for name, value in metrics.items()}
    files = {path.name: file_hash(path) for path in folder.glob("*.parquet")}
    edit(folder / "record.json", metrics=finite, metric_reasons=reasons, files=files)
    write(run)


def of_record(run: Path, cell: str, **change: Any) -> None:
    edit(run / "cells" / cell / "record.json", **change)
    write(run)


def a_swapped_label(run: Path) -> None:
    def swap(rows: pd.DataFrame, responses: pd.DataFrame) -> Tables:
        sides = {"chosen": "rejected", "rejected": "chosen"}
        other = {name: re.sub("chosen|rejected", lambda side: sides[side[0]], name) for name in rows}
        swapped = rows.rename(columns=other)[list(rows)]
        swapped["gap"] = swapped["score_chosen"] - swapped["score_rejected"]
        return pd.concat([swapped[:1], rows[1:]], ignore_index=True), responses

    hide(run, SIMPO, swap)


def a_changed_log_prob(run: Path) -> None:
    def raise_first(rows: pd.DataFrame, responses: pd.DataFrame) -> Tables:
        first = rows.index == 0
        hit = responses["response_id"] == rows["chosen_response_id"][0]
        return (
            rows.assign(chosen_sum_logp=rows["chosen_sum_logp"] + 5.0 * first),
            responses.assign(sum_logp=responses["sum_logp"] + 5.0 * hit),
        )

    hide(run, SIMPO, raise_first)


def another_seed(run: Path) -> None:
    of_record(run, SIMPO, seed=1)


def a_copied_cell(run: Path) -> None:
    copy = SIMPO.replace("seed0", "seed1")
    shutil.copytree(run / "cells" / SIMPO, run / "cells" / copy)
    cells = [["dpo(beta=0.2)", "qwen", 0], ["dpo(beta=0.2)", "qwen", 1], ["simpo", "qwen", 0], ["simpo", "qwen", 1]]
    edit(run / "manifest.json", cells=cells, run__seeds=[0, 1])
    of_record(run, copy, seed=1, key=copy)


def an_edited_board(run: Path) -> None:
    path = run / "leaderboard.md"
    path.write_text(path.read_text().replace("simpo", "sympo"))


def a_removed_failed_cell(run: Path) -> None:
    shutil.rmtree(run / "cells" / DPO)
    edit(run / "manifest.json", cells=[["simpo", "qwen", 0]])
    write(run)


def the_fingerprint_of_other_data(run: Path) -> None:
    edit(run / "cells" / SIMPO / "record.json", dataset__fingerprint="another")  # no board is made of two data sets


def a_changed_option(run: Path) -> None:
    of_record(run, SIMPO, loss__options={"beta": 2.0, "gamma": 1.5})


def a_moved_folder(run: Path) -> None:
    (run / "cells" / SIMPO).rename(run / "cells" / SIMPO.replace("simpo", "ipo"))


def edited_judgements(run: Path) -> None:
    path = run / "cells" / SIMPO / "judgements" / "j.parquet"
    table = pd.read_parquet(path)
    changed = table.assign(preference=1.0)
    changed.attrs = table.attrs
    changed.to_parquet(path, index=False)


TAMPERINGS: dict[Callable[[Path], None], tuple[str, ...]] = {
    a_swapped_label: (f"cells/{SIMPO}/rows.parquet", "got another score_chosen in 1 rows than in"),
    a_changed_log_prob: (f"cells/{SIMPO}/responses.parquet", "another reward than simpo gives", "for 1 responses"),
    another_seed: (f"cells/{SIMPO}/record.json", "got key", "seed 1"),
    a_copied_cell: (f"cells/{SIMPO.replace('seed0', 'seed1')}/rows.parquet", f"got a table of {SIMPO}"),
    an_edited_board: ("leaderboard.md: got other bytes than the records give", "sympo"),
    a_removed_failed_cell: ("manifest.json: got no cell dpo(beta=0.2) on qwen, seed 0 in cells",),
    the_fingerprint_of_other_data: (f"cells/{SIMPO}/record.json", "dataset.fingerprint", "another"),
    a_changed_option: (f"cells/{SIMPO}/record.json", "got option gamma 1.5, expected 0.5"),
    a_moved_folder: (
        f"cells/{SIMPO.replace('simpo', 'ipo')}/record.json",
        "expected the folder's name",
        "rename neither",
    ),
    edited_judgements: ("leaderboard.json: got other bytes than the records give",),
}
"""What is done to the folder, and the words of the line by which `harness verify` names it."""


@pytest.fixture
def prepared(run: Path, request: pytest.FixtureRequest, add_cell: Callable[..., None]) -> Path:
    """A sound run; where that is what is removed, with a failed cell, and where they are edited, with judgements."""
    if request.param is a_removed_failed_cell:
        add_cell(run, "dpo(beta=0.2)", None)
        write(run)
    if request.param is edited_judgements:
        shutil.rmtree(run)
        made(request.getfixturevalue("make_run"), run)
    text, code = run_verify(run)
    assert code == 0, text
    return run


@pytest.mark.parametrize(
    ("prepared", "tamper", "words"),
    [(tamper, tamper, words) for tamper, words in TAMPERINGS.items()],
    ids=[tamper.__name__ for tamper in TAMPERINGS],
    indirect=["prepared"],
)
def test_a_tampering_is_named(prepared: Path, tamper: Callable[[Path], None], words: tuple[str, ...]) -> None:
    tamper(prepared)
    text, code = run_verify(prepared)
    problems = [line for line in text.splitlines() if line.startswith("          - ")]
    assert code == 3
    assert [line for line in problems if all(word in line for word in words)], text


def test_there_are_ten() -> None:
    assert len(TAMPERINGS) == 10
