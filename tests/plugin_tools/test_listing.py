"""Pages about losses: the catalogue, the list, the page of one."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from harness.api import HarnessError, Loss, PairLogps, ResponseLogps, Terms
from harness.api.paragraphs import paragraphs
from harness.manager import Manager, of_one_plugin, plugin_manager
from harness.plugin_tools.catalogue import HEAD, escaped, row
from harness.plugin_tools.listing import default_loss, family, needs, plugin_list, plugin_page


@dataclass(frozen=True, kw_only=True)
class Silent(Loss):
    name: ClassVar[str] = "silent"
    needs_columns = ("score_chosen",)
    batch_coupled = True
    cap: float | None = None
    strict: bool = True

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-pairs.chosen.mean())

    def reward(self, response: ResponseLogps) -> Any:
        return response.sum


def documented(text: str, monkeypatch: pytest.MonkeyPatch) -> type[Loss]:
    """A loss in a module with this docstring."""
    module = ModuleType("documented_module", text)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return type("Documented", (Silent,), {"__module__": module.__name__, "__doc__": "A loss."})


@pytest.fixture(scope="module")
def manager() -> Manager:
    return plugin_manager()


def test_a_paragraph_ends_at_the_next_label_or_an_empty_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = documented(
        "X: a loss.\n\nFormula: a *\nb: c.\nReward: r.\n\nAn aside.\nSource: A (2024), arXiv:2401.00001.\n", monkeypatch
    )
    assert paragraphs(cls) == {"Formula": "a * b: c.", "Reward": "r.", "Source": "A (2024), arXiv:2401.00001."}


def test_a_loss_without_paragraphs_has_empty_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = documented("", monkeypatch)
    cells = dict(zip(HEAD, row(cls(), paragraphs(cls)), strict=True))
    assert (cells["Formula"], cells["Reward"], cells["Mark"], cells["Source"]) == ("", "", "", "")
    assert cells["Name"] == "`silent`"
    assert cells["Options and defaults"] == "`cap=none` `strict=true`"


def test_marks_and_links_are_made_of_provenance_and_arxiv_ids() -> None:
    said = {"Provenance": "[V] TRL 1.16.0's code.", "Source": "A (2024), arXiv:2405.14734, eq. 6."}
    cells = dict(zip(HEAD, row(Silent(), said), strict=True))
    assert cells["Mark"] == "V"
    assert cells["Source"] == "A (2024), [arXiv:2405.14734](https://arxiv.org/abs/2405.14734), eq. 6."


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("|s_w - s_l| * S", r"\|s\_w - s\_l\| \* S"),
        ("x < 1 & [V]", r"x &lt; 1 &amp; \[V\]"),
        ('with `a_b="x|y"` on', r'with `a_b="x\|y"` on'),
        ("a lone ` b_c", r"a lone \` b\_c"),
        ("Traps~ $x$", r"Traps\~ \$x\$"),
    ],
)
def test_a_formula_is_shown_as_it_was_written(text: str, markdown: str) -> None:
    assert escaped(text) == markdown


def test_every_row_of_the_catalogue_has_the_cells_of_its_head() -> None:
    page = (Path(__file__).parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) > 7
    for line in table:
        assert len(re.findall(r"(?<!\\)\|", line)) == len(HEAD) + 1, line


def test_a_family_says_how_responses_meet_and_what_is_rewarded(manager: Manager) -> None:
    assert family(default_loss(manager, "dpo")) == "pairwise, reference, summed"
    assert family(default_loss(manager, "simpo")) == "pairwise, reference-free, averaged"
    assert family(default_loss(manager, "gappo")) == "pairwise, reference-free, averaged, around simpo"


def test_needs_are_said_in_words() -> None:
    assert needs(Silent()) == ["whole step", "column score_chosen"]


def test_a_loss_whose_constructor_raises_is_named_with_who_brings_it(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Loss) -> None:
        raise ZeroDivisionError("on purpose")

    from harness.manager import losses

    monkeypatch.setattr(losses(manager)["simpo"], "__post_init__", refuse)
    with pytest.raises(HarnessError, match=r"loss 'simpo' of preference-harness .*ZeroDivisionError: on purpose"):
        default_loss(manager, "simpo")


def test_the_page_of_a_loss_has_family_promises_and_options(harness: Any) -> None:
    shown = harness("plugins", "show", "dpo").stdout
    assert "Family: pairwise, reference, summed" in shown
    assert "Needs: reference" in shown
    assert "a misranked pair always has a gradient" in shown
    assert "beta = 0.1" in shown


def test_selectors_are_listed_with_their_options_and_have_a_page() -> None:
    listed = plugin_list().partition("Selectors:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split(":")[0] for line in listed] == list(of_one_plugin(plugin_manager(), "harness_selectors"))
    assert any(line.startswith("alignment-potential:share=0.4,weight=1 ") for line in listed)
    page = plugin_page("dual-margin")
    assert "probe = 256  Random pairs on which the probe is trained by DPO." in page
    assert "share = 0.1  Of the training pairs, what is kept." in page
    assert "Needs: scores of both responses, the start checkpoint's log-probs of all candidates, a probe, " in page
    assert "Needs: the training pairs only" in plugin_page("random")
    with pytest.raises(HarnessError, match="got loss 'dcmr'"):
        plugin_page("dcmr")


def test_the_list_stands_by_family(harness: Any) -> None:
    listed = harness("plugins", "list").stdout
    under = listed.partition("Pairwise, reference, summed:\n")[2].partition("\n\n")[0]
    assert "\ndpo " in "\n" + under
    assert "simpo" not in {line.split()[0] for line in under.splitlines()}
