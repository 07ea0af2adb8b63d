"""leaderboard.html in a real headless Chromium, served by `harness view`'s server.

Needs Debian's chromium and chromium-driver, selenium, and for the pictures the extra `plots`; without them the tests
skip with the reason, in CI they fail.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from page_examples import HOSTILE, MANIFEST, needed, picture_data, sorted_in_order, table
from waiting import until

from harness.leaderboard.page import html
from harness.leaderboard.page.manifest_facts import manifest_facts
from harness.leaderboard.page.picture_section import PagePictures
from harness.leaderboard.pictures import files
from harness.leaderboard.pictures.styles import styles
from harness.leaderboard.pictures.vega import pictures
from harness.leaderboard.serve import server
from harness.run_folder.manifest import Manifest

pytestmark = pytest.mark.browser
LABELS = [*(f"loss{k}" for k in range(4)), "loss4(beta=2.5)", *HOSTILE[:2]]
SHOWN = ".board:not([hidden])"


@dataclass(frozen=True, kw_only=True)
class Open:
    """A page in a browser of its own."""

    driver: Any
    address: str

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def click(self, selector: str) -> None:
        self.run("arguments[0].scrollIntoView({block: 'center'})", self.all(selector)[0])
        self.all(selector)[0].click()

    def column(self, number: int) -> list[str]:
        """Return the sort values of the visible rows of the shown board."""
        return list(
            self.run(
                f"return [...document.querySelectorAll('{SHOWN} tbody tr:not([hidden])')].map(row => {{ let at = 0;"
                "for (const cell of row.cells) if ((at += cell.colSpan) > arguments[0]) return cell.dataset.v ?? '';"
                "return ''; })",
                number,
            )
        )

    def labels(self) -> list[str]:
        return list(
            self.run(
                f"return [...document.querySelectorAll('{SHOWN} tbody tr:not([hidden])')].map(row => row.dataset.label)"
            )
        )

    def narrow(self, width: int, height: int) -> None:
        device = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)

    def drawn(self, name: str) -> Any:
        """Return the picture `name` of the shown board, scrolled to and drawn."""
        place = self.all(f"{SHOWN} .picture[id^='{name}-']")[0]
        self.run("arguments[0].scrollIntoView({block: 'center'})", place)
        until(lambda: place.get_attribute("data-drawn") == "yes", f"the picture {name}")
        return place


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """The page of a run, with pictures where the extra `plots` is installed; closing it checks what it asked for."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    absent = [name for name, path in programs.items() if path is None]
    absent += [] if importlib.util.find_spec("selenium") else ["selenium"]
    needed(f"not installed: {', '.join(absent)} (Debian: chromium chromium-driver; pip: selenium)" if absent else "")
    from selenium import webdriver

    run = tmp_path_factory.mktemp("run")
    (run / "cells").mkdir()
    (run / "leaderboard.html").write_text(_text(tmp_path_factory.mktemp("cache")), encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs["chromium"])
    quiet = ("disable-background-networking", "disable-component-update", "disable-sync", "no-first-run")
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", *quiet):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(programs["chromedriver"])))
    try:
        with server(run) as running:
            thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield Open(driver=driver, address=f"http://127.0.0.1:{running.server_address[1]}/leaderboard.html")
            finally:
                running.shutdown()
                thread.join()
    finally:
        driver.quit()


@pytest.fixture(autouse=True)
def fresh(page: Open) -> Iterator[None]:
    """Every test begins on a freshly loaded desktop page and ends without a complaint or a request to elsewhere."""
    page.narrow(1400, 1000)
    page.driver.get(page.address)
    yield
    complaints = [entry["message"] for entry in page.driver.get_log("browser")]
    events = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert complaints == []
    assert {url for url in asked if not url.startswith(("data:", "blob:", "file:"))} <= {page.address}


def _text(cache: Path) -> str:
    content = table(LABELS)
    if files.why_no_pictures():
        return html.render(content, manifest=manifest_facts(Manifest.of(MANIFEST)), note=files.why_no_pictures())
    style_of = styles(content)
    boards = [pictures(board, picture_data(LABELS), style_of, content.ranked_by) for board in content.boards]
    shown = PagePictures(boards=boards, styles=style_of, script=files.vega_script(cache), files=["", "", "plots/all"])
    return html.render(content, manifest=manifest_facts(Manifest.of(MANIFEST)), pictures=shown)


def test_a_click_sorts_and_a_second_one_turns_the_order(page: Open) -> None:
    button = f"{SHOWN} button[data-column='16']"
    for order in ("ascending", "descending"):
        page.click(button)
        headings = page.all(f"{SHOWN} th[aria-sort]")
        assert [heading.get_attribute("aria-sort") for heading in headings] == [order]
        values = page.column(16)
        assert values[-2:] == ["", ""]  # what has no value stays last both ways
        assert sorted_in_order([float(value) for value in values[:-2]], falling=order == "descending")
        assert page.all("#status")[0].get_attribute("textContent") == f"Sorted by tokens, {order}."


def test_the_keyboard_sorts(page: Open) -> None:
    from selenium.webdriver.common.keys import Keys

    button = page.all(f"{SHOWN} button[data-column='2']")[0]
    button.send_keys(Keys.ENTER)
    assert sorted_in_order([float(value) for value in page.column(2) if value], falling=True)
    button.send_keys(Keys.SPACE)
    assert sorted_in_order([float(value) for value in page.column(2) if value])
    assert page.run("return document.activeElement === arguments[0]", button)


def test_tab_reaches_every_control_and_shows_where_it_is(page: Open) -> None:
    from selenium.webdriver.common.keys import Keys

    seen = []
    for _ in range(12):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(page.run("const e = document.activeElement; return e.id || e.className || e.textContent.trim()"))
        assert page.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert seen[0] == "skip"
    assert {"theme", "filter", "family", "scroll"} <= set(seen)


def test_text_and_family_filter_rows_and_say_how_many_are_left(page: Open) -> None:
    from selenium.webdriver.support.select import Select

    page.all("#filter")[0].send_keys("LOSS4")
    assert page.labels() == ["loss4(beta=2.5)"]
    assert page.all("#count")[0].text == "1 of 9 rows shown"
    page.all("#filter")[0].clear()
    page.all("#filter")[0].send_keys("<script>")
    assert page.labels() == [HOSTILE[0]]
    page.run("document.getElementById('filter').value = ''")
    family = Select(page.all("#family")[0])
    assert [option.text for option in family.options] == ["all", "listwise", "reference-based", "reference-free"]
    family.select_by_visible_text("reference-based")
    assert page.labels() == ["loss0", "loss2", "loss4(beta=2.5)", HOSTILE[1], "base"]
    family.select_by_visible_text("listwise")
    assert page.labels() == ["loss0", "loss3", HOSTILE[1], "base", "wild"]


def test_one_board_is_shown_at_a_time_and_the_address_remembers_it(page: Open) -> None:
    assert [board.get_attribute("id") for board in page.all(SHOWN)] == ["board-2"]  # the one over all models
    page.click(".boards a[href='#board-1']")
    assert [board.get_attribute("id") for board in page.all(SHOWN)] == ["board-1"]
    assert [link.text for link in page.all(".boards a[aria-current='true']")] == ["gemma"]
    page.driver.refresh()
    assert [board.get_attribute("id") for board in page.all(SHOWN)] == ["board-1"]
    page.driver.get("about:blank")


def test_dark_is_followed_toggled_and_remembered_where_a_page_has_storage(page: Open, tmp_path: Path) -> None:
    back = "return getComputedStyle(document.body).backgroundColor"
    (tmp_path / "leaderboard.html").write_text(_text(tmp_path), encoding="utf-8")
    page.driver.get((tmp_path / "leaderboard.html").as_uri())  # what `harness view` serves is confined and has none
    assert page.run(back) == "rgb(255, 255, 255)"
    media = "Emulation.setEmulatedMedia"
    page.driver.execute_cdp_cmd(media, {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    assert page.run(back) == "rgb(18, 22, 27)"
    page.driver.execute_cdp_cmd(media, {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
    page.click("#theme")
    assert page.run(back) == "rgb(18, 22, 27)"
    assert page.all("#theme")[0].get_attribute("aria-pressed") == "true"
    page.driver.refresh()
    assert page.run(back) == "rgb(18, 22, 27)"
    page.click("#theme")
    assert page.run(back) == "rgb(255, 255, 255)"


def test_a_phone_scrolls_the_table_and_never_the_page(page: Open) -> None:
    page.narrow(360, 740)
    page.driver.refresh()
    for place in page.all(f"{SHOWN} .picture"):
        page.drawn(place.get_attribute("id").partition("-")[0])
    assert page.run("return document.documentElement.scrollWidth") <= 360
    inside = page.run(f"const s = document.querySelector('{SHOWN} .scroll'); return [s.scrollWidth, s.clientWidth]")
    assert inside[0] > inside[1]
    page.run(f"document.querySelector('{SHOWN} .scroll').scrollLeft = 300")
    name = page.run(f"return document.querySelector('{SHOWN} tbody th').getBoundingClientRect().left")
    assert 0 <= name < 60  # the loss's name stays in sight
    assert page.run("return document.documentElement.scrollWidth") <= 360


def test_the_first_loss_is_in_sight_at_once(page: Open) -> None:
    top = f"return document.querySelector('{SHOWN} .line.sound').getBoundingClientRect().top"
    assert page.run(top) < 450
    page.narrow(390, 844)
    assert page.run(top) < 844


def test_a_phone_shows_rank_loss_and_accuracy_with_its_interval_without_scrolling(page: Open) -> None:
    page.narrow(390, 844)
    page.driver.refresh()
    for number in range(3):  # rank, loss, the ranked metric
        cells = f"document.querySelectorAll('{SHOWN} tbody tr.sound > :nth-child({number + 1})')"
        ends = page.run(
            f"return [...{cells}].map(cell => cell.getBoundingClientRect()).map(box => [box.left, box.right])"
        )
        assert len(ends) == len(LABELS)
        assert all(left >= 0 and right <= 390 for left, right in ends), number
    boxes = page.run(
        f"return [...document.querySelectorAll('{SHOWN} .line .number')].map(e => e.getBoundingClientRect().right)"
    )
    assert max(boxes) <= 390


def test_a_phone_breaks_no_name_in_the_tables_on_answers(page: Open) -> None:
    """Beside a wide table a column of names shrinks to a letter: names stand on one line."""
    committed = Path(__file__).parents[3] / "leaderboards" / "frontier" / "leaderboard.html"
    tables = re.findall(
        '<div class="scroll aside".*?</table>\n</div>', committed.read_text(encoding="utf-8"), re.DOTALL
    )
    page.narrow(390, 844)
    page.run(f"document.querySelector('{SHOWN}').insertAdjacentHTML('beforeend', arguments[0])", "".join(tables))
    heights = page.run(
        "return [...document.querySelectorAll('.aside tbody th.name')].map(name => {"
        "const range = document.createRange(); range.selectNodeContents(name);"
        "return range.getClientRects().length; })"
    )
    page.run("document.querySelectorAll('.aside').forEach(table => table.remove())")
    assert len(heights) == 8 + 8 + 7 + 7  # numbers, the judge, and two frontiers without the base
    assert set(heights) == {1}


def test_a_table_that_goes_on_says_so_until_its_end_is_reached(page: Open) -> None:
    said = f"return getComputedStyle(document.querySelector('{SHOWN} .frame'), '::before').content"
    assert "more columns" in page.run(said)
    page.run(f"document.querySelector('{SHOWN} .scroll').scrollLeft = 9999")
    until(lambda: page.run(said) == "none", "the end of the table")
    page.narrow(6000, 1000)
    until(lambda: page.run(said) == "none", "a window with room for all")


@pytest.mark.parametrize("width", [390, 1400])
def test_text_of_twice_the_size_is_not_cut_and_pictures_follow_it(page: Open, width: int) -> None:
    page.narrow(width, 1000)
    sizes = (
        f"return [...document.querySelectorAll('body, button, input, {SHOWN}, {SHOWN} *')]"
        ".filter(e => !e.closest('.picture')).map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    before = page.run(sizes)
    page.run("document.documentElement.style.fontSize = '32px'")
    assert page.run(sizes) == pytest.approx([2 * size for size in before])
    page.run("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert page.run("return document.documentElement.scrollWidth") <= width
    cut = (
        "return [...document.querySelectorAll('.board:not([hidden]) .line > *, h1, h2, .headline, summary, button')]"
        ".filter(e => !e.closest('.scroll') && e.clientWidth && e.scrollWidth > e.clientWidth + 1)"
        ".map(e => e.outerHTML)"
    )
    assert page.run(cut) == []
    needed(files.why_no_pictures())
    label = page.drawn("scores").find_elements("css selector", "g.role-axis-label text")[0]
    until(lambda: label.value_of_css_property("font-size") == "20px", "labels of twice the size")


def test_filtering_takes_lines_out_of_the_forest_plot_too(page: Open) -> None:
    page.all("#filter")[0].send_keys("loss4")
    lines = page.all(f"{SHOWN} .line[data-label]:not([hidden])")
    assert [line.get_attribute("data-label") for line in lines] == ["loss4(beta=2.5)"]


def test_names_run_nothing(page: Open) -> None:
    assert page.run("return document.querySelectorAll('img').length") == 0
    assert HOSTILE[0] in page.labels()


def test_hovering_a_point_shows_its_numbers(page: Open) -> None:
    needed(files.why_no_pictures())
    from selenium.webdriver import ActionChains

    place = page.drawn("spend")
    points = place.find_elements("css selector", "g.mark-symbol path")
    ActionChains(page.driver).move_to_element(points[0]).perform()
    shown = until(lambda: page.all("#vg-tooltip-element.visible"), "the tooltip")[0]
    words = until(lambda: shown.text, "its text")
    assert "loss" in words
    assert "seconds" in words


def test_a_tooltip_shows_a_hostile_name_as_text(page: Open) -> None:
    needed(files.why_no_pictures())
    from selenium.webdriver import ActionChains

    page.click(f"{SHOWN} .chip[data-every='false']")
    chips = {chip.get_attribute("data-label"): chip for chip in page.all(f"{SHOWN} .chip[data-label]")}
    chips[HOSTILE[0]].click()
    place = page.drawn("spend")
    until(lambda: len(place.find_elements("css selector", "g.mark-symbol path")) == 2, "one loss in two panels")
    ActionChains(page.driver).move_to_element(place.find_elements("css selector", "g.mark-symbol path")[0]).perform()
    shown = until(lambda: page.all("#vg-tooltip-element.visible"), "the tooltip")[0]
    until(lambda: HOSTILE[0] in shown.text, "the name as text")
    assert not page.all("#vg-tooltip-element script")


def test_pictures_are_drawn_and_draw_the_losses_that_are_pressed_and_not_filtered_out(page: Open) -> None:
    needed(files.why_no_pictures())

    def lines() -> int:
        return len(place.find_elements("css selector", "g.mark-line path"))

    for name in ("places", "models", "quartiles", "scores", "reliability", "curves", "spend", "differences"):
        assert page.drawn(name).find_elements("css selector", "svg")
    place = page.drawn("curves")
    until(lambda: lines() == 3 * len(LABELS), "all losses in three panels")
    page.click(f"{SHOWN} .chip[data-label='loss0']")
    assert page.all(f"{SHOWN} .chip[data-label='loss0']")[0].get_attribute("aria-pressed") == "false"
    until(lambda: lines() == 3 * (len(LABELS) - 1), "one loss less")
    page.all("#filter")[0].send_keys("loss")
    until(lambda: lines() == 3 * 4, "those that the filter leaves")
    page.click(f"{SHOWN} .chip[data-every='false']")
    assert not place.find_element("css selector", "svg").is_displayed()


def test_pictures_follow_the_theme(page: Open) -> None:
    needed(files.why_no_pictures())
    place = page.drawn("scores")

    def ink() -> set[str]:
        labels = place.find_elements("css selector", "g.role-axis-label text")
        return {label.get_attribute("fill") for label in labels}

    assert ink() == {"#57606a"}
    page.click("#theme")
    until(lambda: ink() == {"#a3adb8"}, "the labels in the dark theme's colour")
    page.click("#theme")
