"""Verdict -> JUnit XML: a test case a cell, and one for the overall difference.

Regressions and inconclusive cells are failures, told apart by `type`; cells that came to nothing are errors; what is
not compared, and a gate without a baseline, is skipped.
"""

from __future__ import annotations

from xml.etree import ElementTree

from harness.compare.sides import Cell
from harness.compare.verdict import Judged, Status, Verdict
from harness.compare.wording import bracket, number
from harness.leaderboard.formatting import one_line

SUITE = "harness gate"


def render(verdict: Verdict) -> str:
    """Return the verdict as JUnit XML with a trailing newline."""
    suite = ElementTree.Element("testsuite", name=SUITE)
    for one in verdict.cells:
        _judged(suite, one, verdict)
    for trouble in verdict.troubles:
        case = _case(suite, trouble.cell, f", seed {trouble.seed}")
        _outcome(case, "error", trouble.status, trouble.reason)
    if verdict.comparison is not None:
        for left in verdict.comparison.unmatched:
            _outcome(_case(suite, left.cell), "skipped", "not compared", left.reason)
    if verdict.overall is not None:
        _judged(suite, verdict.overall, verdict)
    if verdict.status is Status.NO_BASELINE:
        _outcome(_case(suite, Cell("gate", "baseline")), "skipped", verdict.status.value, verdict.headline)
    elif verdict.status is Status.NOT_COMPARABLE:
        _outcome(_case(suite, Cell("gate", "baseline")), "error", verdict.status.value, verdict.headline)
    elif verdict.status is Status.INCONCLUSIVE and verdict.overall is None:
        _outcome(_case(suite, Cell("gate", "overall")), "failure", verdict.status.value, verdict.headline)
    counts = {kind: len(suite.findall(f"testcase/{kind}")) for kind in ("failure", "error", "skipped")}
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(counts["failure"]))
    suite.set("errors", str(counts["error"]))
    suite.set("skipped", str(counts["skipped"]))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _judged(suite: ElementTree.Element, one: Judged, verdict: Verdict) -> None:
    case = _case(suite, one.difference.cell)
    numbers = (
        f"BASE {number(one.difference.base)}, NEW {number(one.difference.new)}, difference {bracket(one.difference)}, "
        f"margin {verdict.margin:g}, {one.difference.n} examples of {one.difference.n_prompts} prompts"
    )
    if one.status is Status.PASS:
        ElementTree.SubElement(case, "system-out").text = numbers
    else:
        _outcome(case, "failure", one.status.value, f"{one.reason} {numbers}")


def _case(suite: ElementTree.Element, cell: Cell, more: str = "") -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=one_line(f"{SUITE}.{cell.model}"), name=one_line(cell.label + more)
    )


def _outcome(case: ElementTree.Element, kind: str, type_: str, message: str) -> None:
    ElementTree.SubElement(case, kind, type=type_, message=one_line(message)).text = one_line(message)
