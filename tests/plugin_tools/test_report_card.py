"""The report card of a loss, and the golden files it reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.api import HarnessError
from harness.api.checks import CHECKS
from harness.plugin_tools.report_card import report_card

# SimPO at beta 2 and gamma 0.5 on mean log-probs of -1 and -2: -log sigmoid(2 * 1 - 0.5) = log(1 + e^-1.5)
RECORD = {"chosen": [[-0.5, -1.5]], "rejected": [[-2.0]], "expected": [0.2014132779827524], "source": "by hand"}


def golden(folder: Path, *records: Any) -> Path:
    path = folder / "golden.json"
    path.write_text(json.dumps(list(records)), encoding="utf-8")
    return path


def test_the_card_has_a_line_for_every_rule_and_counts_them(tmp_path: Path) -> None:
    card, passed = report_card("simpo:beta=2.5", golden(tmp_path, RECORD))
    assert passed
    lines = card.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(CHECKS)]] == [check.__name__ for check in CHECKS]
    counts = [line.split()[1] for line in lines[1 : 1 + len(CHECKS)]]
    skipped = counts.count("-")
    assert lines[-1] == f"simpo(beta=2.5): {len(CHECKS) - skipped} passed, 0 failed, {skipped} not applicable"


def test_a_golden_value_that_does_not_hold_fails_the_card_with_both_numbers_and_their_source(tmp_path: Path) -> None:
    card, passed = report_card("simpo", golden(tmp_path, RECORD, RECORD | {"expected": [0.3]}))
    assert not passed
    (line,) = [line for line in card.splitlines() if line.startswith("golden_values_hold")]
    assert "FAILED" in line
    assert "expected [0.3] (by hand)" in line
    assert "1 failed" in card.splitlines()[-1]


def test_options_references_and_columns_of_a_golden_file_reach_the_loss(tmp_path: Path) -> None:
    # DPO: h = (-2 + 1) - (-2 + 4) = -3, beta 0.5: -log sigmoid(-1.5) = log(1 + e^1.5) = 1.7014132779827524
    pair = {**RECORD, "ref_chosen": [-1.0], "ref_rejected": [-4.0], "expected": [1.7014132779827524]}
    _, passed = report_card("dpo", golden(tmp_path, pair | {"options": {"beta": 0.5}}))
    assert passed
    # GapPO: the given weight times SimPO's value
    weighted = RECORD | {"columns": {"weight": [3.0]}, "expected": [3 * 0.2014132779827524], "rtol": 1e-12}
    _, passed = report_card("gappo", golden(tmp_path, weighted))
    assert passed


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("no object", "record 0: got 'no object', expected an object with chosen, rejected and expected"),
        (RECORD | {"chozen": []}, "got 'chozen', expected keys among options, chosen"),
        (RECORD | {"chosen": []}, r"got chosen \[\], expected a list of token log-probs for each response"),
        (RECORD | {"chosen": [["x"]]}, r"got chosen \['x'\], expected a list of 1 numbers"),
        (RECORD | {"rejected": [[-1.0], [-2.0]]}, "got 1 chosen and 2 rejected responses, expected pairs"),
        (RECORD | {"expected": [1.0, 2.0]}, r"got expected \[1.0, 2.0\], expected a list of 1 numbers"),
        (RECORD | {"what": "reward"}, "expected a list of 2 numbers"),
        (RECORD | {"what": "sum"}, "got what='sum', expected one of values, mean, preference, reward"),
        (RECORD | {"ref_chosen": -1.0}, "got ref_chosen -1.0, expected a list of 1 numbers"),
        (RECORD | {"columns": [1.0]}, r"got columns \[1.0\], expected an object"),
        (RECORD | {"options": "beta"}, "got options 'beta', expected an object"),
        (RECORD | {"rtol": "tight"}, "got rtol 'tight', expected a number"),
    ],
)
def test_a_malformed_golden_record_is_answered_with_what_was_expected(
    tmp_path: Path, record: Any, message: str
) -> None:
    with pytest.raises(HarnessError, match=message):
        report_card("simpo", golden(tmp_path, record))


@pytest.mark.parametrize("text", ["{}", "[]", "not JSON"])
def test_a_file_that_is_no_list_of_records_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "golden.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(HarnessError, match="got golden file"):
        report_card("simpo", path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simpo,dpo", "which names 2 losses, expected one"),
        ("nobody", "got loss 'nobody', expected one of"),
        ("simpo:betta=1", "has no option 'betta'"),
    ],
)
def test_a_name_that_is_not_one_loss_is_refused(name: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        report_card(name)
