"""Verdict -> JUnit XML: a test case per cell, and one for the overall difference.

The suite's properties are the `headline` and, where cells were compared, what the intervals cover (`covers`).
Regressions and inconclusive cells are failures, told apart by `type`; cells that failed or diverged are errors; what is
not compared, and a gate without a baseline, is skipped.
"""

from __future__ import annotations

from xml.etree import ElementTree

from harness.compare.verdict import Judged, Status, Verdict
from harness.compare.wording import difference_with_interval, number
from harness.leaderboard.formatting import one_line
from harness.run_folder.noise_floor import LossOnModel

SUITE = "harness gate"


def render(verdict: Verdict) -> str:
    """Return the verdict as JUnit XML with a trailing newline."""
    suite = ElementTree.Element("testsuite", name=SUITE)
    _add_properties(suite, verdict)
    for cell in verdict.cells:
        _add_judged(suite, cell, verdict.margin)
    for trouble in verdict.troubles:
        case = _add_case(suite, trouble.cell, f", seed {trouble.seed}")
        _add_outcome(case, "error", trouble.status, trouble.reason)
    for unmatched in verdict.comparison.unmatched if verdict.comparison else ():
        _add_outcome(_add_case(suite, unmatched.cell), "skipped", "not compared", unmatched.reason)
    if verdict.overall is not None:
        _add_judged(suite, verdict.overall, verdict.margin)
    _add_whole_gate(suite, verdict)
    suite.set("tests", str(len(suite.findall("testcase"))))
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_properties(suite: ElementTree.Element, verdict: Verdict) -> None:
    properties = ElementTree.SubElement(suite, "properties")
    covers = verdict.comparison.covers if verdict.comparison else None
    for name, value in (("headline", verdict.headline), ("covers", covers)):
        if value is not None:
            ElementTree.SubElement(properties, "property", name=name, value=one_line(value))


def _add_whole_gate(suite: ElementTree.Element, verdict: Verdict) -> None:
    """Add a case for what no cell shows: no baseline, runs that cannot be compared, no overall difference."""
    match verdict.status:
        case Status.NO_BASELINE:
            label, kind = "baseline", "skipped"
        case Status.NOT_COMPARABLE:
            label, kind = "baseline", "error"
        case Status.INCONCLUSIVE if verdict.overall is None:
            label, kind = "overall", "failure"
        case _:
            return
    _add_outcome(_add_case(suite, LossOnModel("gate", label)), kind, verdict.status.value, verdict.headline)


def _add_judged(suite: ElementTree.Element, judged: Judged, margin: float) -> None:
    case, difference = _add_case(suite, judged.difference.cell), judged.difference
    numbers = (
        f"BASE {number(difference.base)}, NEW {number(difference.new)}, difference "
        f"{difference_with_interval(difference)}, margin {margin:g}, {difference.n} examples of {difference.n_prompts} "
        "prompts"
    )
    if judged.status is Status.PASS:
        ElementTree.SubElement(case, "system-out").text = numbers
    else:
        _add_outcome(case, "failure", judged.status.value, f"{judged.reason} {numbers}")


def _add_case(suite: ElementTree.Element, cell: LossOnModel, more: str = "") -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=one_line(f"{SUITE}.{cell.model}"), name=one_line(cell.label + more)
    )


def _add_outcome(case: ElementTree.Element, kind: str, type_: str, message: str) -> None:
    ElementTree.SubElement(case, kind, type=type_, message=one_line(message)).text = one_line(message)
