"""leaderboard.html: what it says, what it escapes, and that it asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from page_examples import HOSTILE, MANIFEST, SETTINGS, table

from harness.cli import cli
from harness.execute.resolve import run_values
from harness.leaderboard import markdown, write
from harness.leaderboard.decide.answers import BoardAnswers
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.page import forest, html
from harness.leaderboard.page.manifest_facts import manifest_facts
from harness.leaderboard.page.notes import command, how_to_read
from harness.leaderboard.page.picture_section import embedded
from harness.leaderboard.table import Table
from harness.run_folder.board_key import BoardKey
from harness.run_folder.generation_facts import GenerationFacts, PromptFacts
from harness.run_folder.manifest import Manifest

LABELS = ["loss0", "loss1(beta=2.5)", "loss2"]


class Page(HTMLParser):
    """Every element with its attributes, and the text of scripts apart from that of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return "".join(self.words)


def render(content: Table, **options: object) -> str:
    return html.render(
        content, manifest=manifest_facts(Manifest.of(MANIFEST)), note="No pictures: for this test.", **options
    )  # type: ignore[arg-type]  # options of render


def cells(text: str, label: str) -> list[str]:
    """Return the text of the cells of a loss's first row."""
    line = next(line for line in text.splitlines() if line.startswith("<tr") and f'data-label="{label}"' in line)
    return [re.sub("<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", line)]


def test_a_row_says_rank_range_value_interval_tier_other_readings_differences_ranks_and_spend() -> None:
    # row 1 of 3: 0.9 - 0.4 / 3 = 0.767, 0.05 around it; 0.133 below the leader; 0.267 over the base
    row = cells(render(table(LABELS)), "loss1(beta=2.5)")
    assert row[:4] == ["2 [1–3]", "loss1(beta=2.5)", "0.767 [0.717, 0.817]", "1"]
    assert row[4:7] == ["0.767 [0.717, 0.817]"] * 3  # learned, accuracy@mean, accuracy@sum
    assert row[7:9] == ["-0.133 [-0.183, -0.083]", "+0.267 [+0.217, +0.317]"]
    assert row[9:15] == ["–", "–", "2 [1–3]", "2 [2–2]", "–", "–"]  # own, learned, sum, mean, ratio, ratio_mean
    assert row[15:18] == ["400 G", "80,000", "700 MiB"]
    assert row[-1] == "reference-free"


def test_seconds_stand_with_the_command_of_a_row_and_in_no_column() -> None:
    text = render(table(LABELS))
    assert not [heading for heading in re.findall(r"<th scope=.*?</th>", text) if "seconds" in heading]
    assert "beta = 0.1; 11.0 s of training per cell, on the machine that it ran on" in Page(text).text


def test_a_loss_that_diverged_and_a_missing_value_say_why() -> None:
    text = render(table(LABELS))
    wild, base = cells(text, "wild"), cells(text, "base")
    assert wild[0] == "4"
    assert "diverged" in wild[1]
    assert wild[2] == "diverged: loss became NaN at step 7"
    assert (base[0], base[2]) == ("–", "no reward is known")
    for line in text.splitlines():
        if "<tr class=" in line:
            spans = [int(span) for span in re.findall(r'colspan="(\d)"', line)]
            assert len(re.findall(r"<t[hd]\b", line)) + sum(spans) - len(spans) == 22


def test_the_base_has_its_common_yardsticks_and_no_difference_to_itself() -> None:
    content = table(LABELS)
    board, found = content.boards[0], Estimate(value=0.427, low=0.4, high=0.45, n=100)
    rows = [
        replace(row, metrics={**row.metrics, "pairwise_accuracy@mean": found, "pairwise_accuracy@sum": found})
        if row.label == "base"
        else row
        for row in board.rows
    ]
    (base,) = [cells(render(replace(content, boards=(replace(board, rows=tuple(rows)),))), "base")]
    assert base[3:7] == ["–", "0.427 [0.400, 0.450]", "0.427 [0.400, 0.450]", "–"]  # behind the reason, which takes two
    assert base[7] == "–"


def test_a_board_begins_with_its_findings_then_one_line_that_opens_the_forest_plot_and_the_table() -> None:
    content = table(LABELS, models=("qwen",))
    board = replace(
        content.boards[0], weightiest=("one seed", "nano"), conclusions=("loss0 wins.", "How sure.", "More.")
    )
    text = render(replace(content, boards=(board,)))
    order = [
        '<p class="headline">loss0 wins.</p>',
        '<p class="conclusion">How sure.</p>\n<p class="conclusion">More.</p>',
        '<details class="to-know"><summary>To know (two notes): one seed; nano</summary>',
        "Measures implicit-reward ranking accuracy",
        'class="forest"',
        "<table>",
        "How to reproduce each row",
        "How to read this",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert " open" not in re.findall(r"<details[^>]*>", text)[0]


def test_the_title_says_preset_and_budget_and_every_board_its_disclaimers() -> None:
    page = Page(render(table(LABELS)))
    assert "Preference-loss leaderboard: embedded, nano preset, budget pairs=512" in page.text
    assert page.text.count("Measures implicit-reward ranking accuracy, not generation quality.") == 3
    assert page.text.count("A nano board tests the harness and ranks no method.") == 3
    assert page.text.count("One seed: ranks and tiers are of these trained models") == 3
    assert "No pictures: for this test." in page.text


def test_a_hostile_name_is_shown_as_it_is_and_runs_nothing() -> None:
    content = table([*HOSTILE, "loss"])
    hostile = HOSTILE[2]
    boards = [
        replace(
            board, model=board.model if board.model == "all" else hostile, title=hostile, dataset=hostile,
            preset=hostile, conclusions=(hostile,), disclaimers=(hostile,),
            settings=BoardKey.of({**SETTINGS, "budget": hostile, "dataset": hostile}),
            rows=tuple(replace(row, reason=hostile, tags=(hostile,), options={hostile: hostile},
                               metric_reasons={"pairwise_accuracy": hostile}) for row in board.rows),
        )
        for board in content.boards
    ]  # fmt: skip
    manifest = MANIFEST | {"environment": {hostile: hostile}, "plugins": {HOSTILE[0]: [hostile, hostile]}}
    text = html.render(
        replace(content, boards=tuple(boards)), manifest=manifest_facts(Manifest.of(manifest)), note=hostile
    )
    page, plain = Page(text), Page(render(table(LABELS)))
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    assert len(page.scripts) == len(plain.scripts) == 1
    assert page.scripts == plain.scripts
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    for name in HOSTILE:
        assert name in page.text
        assert any(attributes.get("data-label") == name for attributes in page.all("tr"))


def test_json_in_the_page_ends_no_script_and_comes_back_unchanged() -> None:
    value = {"a</script><!--": ["\u2028", *HOSTILE, "]]>", 1.5, None]}
    text = embedded(value)
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == value
    assert embedded({"b": 1, "a": 2}) == embedded({"a": 2, "b": 1})


def test_nothing_in_the_page_points_outside_and_its_policy_forbids_every_request() -> None:
    page = Page(render(table(LABELS)))
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")]
    assert {"leaderboard.csv", "leaderboard.json"} <= set(links)
    assert all(
        link and (link[0] == "#" or link == "data:," or re.fullmatch(r"leaderboard\.\w+", link)) for link in links
    )
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv")) or ""
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy
    hashes = re.findall(r"'sha256-([^']+)'", policy)
    assert hashes == [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in page.scripts]
    style = render(table(LABELS)).partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_same_table_gives_the_same_bytes() -> None:
    assert render(table(LABELS)) == render(table(LABELS))
    assert render(table(LABELS)).endswith("</html>\n")


def test_tables_have_a_caption_scopes_and_one_sorted_column_and_every_id_is_used_once() -> None:
    page = Page(render(table(LABELS)))
    assert len(page.all("caption")) == len(page.all("table")) == 3
    assert all(heading.get("scope") in ("col", "row", "colgroup") for heading in page.all("th"))
    assert sum("aria-sort" in heading for heading in page.all("th")) == 3
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "for"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
    assert [element.get("lang") for element in page.all("html")] == ["en"]


def luminance(colour: str) -> float:
    """Return the relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_enough_contrast_in_light_and_dark() -> None:
    css = html.page_file("page.css")
    themes = [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r"color-scheme:[^}]+", css)]
    assert len(themes) == 3
    assert themes[1] == themes[2]
    for theme in themes:
        pairs = [(ink, back) for ink in ("text", "faint", "link") for back in ("back", "panel", "band")]
        for ink, back in [*pairs, ("bad", "bad-back"), ("warn", "warn-back"), ("text", "chip"), ("bad", "back")]:
            light, dark = sorted([luminance(theme[ink]), luminance(theme[back])], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, back)


def test_the_forest_plot_puts_values_where_they_belong() -> None:
    axis = forest.shared_axis([Estimate(value=0.6, low=0.5, high=0.7), Estimate()], "pairwise_accuracy")
    assert (axis.low, axis.high, axis.chance) == (0.5, 0.7, 0.5)
    assert axis.ticks == (0.5, 0.55, 0.6, 0.65, 0.7)
    assert (axis.x(0.5), axis.x(0.6), axis.x(0.7), axis.x(0.9)) == (3, 50, 97, 97)  # 3 % are kept at either end
    assert forest.shared_axis([Estimate(value=0.2, low=0.1, high=0.3)], "spearman").chance is None
    assert forest.shared_axis([Estimate(value=0.2, low=-0.1, high=0.3)], "spearman").chance == 0


def test_the_forest_plot_has_a_line_per_row_in_its_tier_and_says_what_has_no_value() -> None:
    """Of six losses three are in tier 1; the values are from 0.9 down to 0.567, intervals 0.05 to each side."""
    content = table([f"loss{k}" for k in range(6)], models=("qwen",))
    text = forest.forest(content.boards[0], "pairwise_accuracy")
    words = [re.sub("<[^>]+>", " ", line) for line in text.splitlines()]
    kinds = [" ".join(line.split())[:20] for line in words if line.strip()]
    assert kinds == [
        *("rank loss 0.6 0.7 0.", "Tier 1 : loss0, and "),
        *("1 [1–2] loss0 0.900 ", "2 [1–3] loss1 0.833 ", "3 [2–4] loss2 0.767 "),
        "Tier 2 : loss3, and ",
        *("4 [3–5] loss3 0.700 ", "5 [4–6] loss4 0.633 ", "6 [5–6] loss5 0.567 "),
        *("Without a result", "7 wild diverged: los", "own reward: share of"),
    ]
    (first,) = [line for line in text.splitlines() if 'data-label="loss0"' in line]
    assert 'class="dot" style="left:86.15%' in first  # (0.9 - 0.5167) / (0.95 - 0.5167) of 94 %, behind 3 %
    assert "[0.850, 0.950]" in first
    nothing = replace(content.boards[0], rows=content.boards[0].rows[-2:])
    assert forest.forest(nothing, "pairwise_accuracy") == ""


def test_the_page_explains_what_the_markdown_explains_each_in_its_own_marks() -> None:
    page, plain = how_to_read(), markdown.render(table(LABELS))
    hints = [line.removeprefix("- ") for line in plain.partition("## How to read this\n\n")[2].splitlines()]
    assert len(hints) == 8
    for hint in hints:
        assert re.sub(r"\*\*|`", "", hint) in Page(page).text
    assert "- **rank** is by the point estimate" in plain
    assert "<li><strong>rank</strong> is by the point estimate" in page
    assert "- `base` is the checkpoint" in plain
    assert "<li><code>base</code> is the checkpoint" in page
    assert "<strong>to the leader</strong>" in page  # a column of the page alone


def test_the_command_of_a_row_gives_the_settings_of_its_board_back() -> None:
    board = table(LABELS, models=("qwen", "gemma")).boards[-1]
    settings = SETTINGS | {"evaluated_on": "dev", "lenient": True, "limit": 64, "data_seed": 3, "scorer": "auto"}
    settings |= {"columns": "prompt=question,chosen=best,rejected=worst", "pairs_from_labels": True}
    settings |= {"splits": "train=first,test=held_out"}
    words = shlex.split(command(replace(board, settings=BoardKey.of(settings)), board.rows[1]))
    assert words[:4] == ["harness", "run", "--plugins", "loss1:beta=2.5"]
    flags = cli.commands["run"].make_context("run", words[2:]).params
    not_of_the_run = ("run_file", "output_dir", "keep_checkpoints", "dry_run", "no_pictures", "quiet")
    run = run_values(None, {name: value for name, value in flags.items() if name not in not_of_the_run})
    assert run.decisive().as_json() == settings
    assert (run.plugins, run.models, run.seeds) == ("loss1:beta=2.5", ("qwen", "gemma"), (0,))


def test_the_command_of_a_row_samples_answers_as_its_board_did() -> None:
    board = table(LABELS).boards[0]
    facts = GenerationFacts(prompts=30, samples=2, temperature=0.7, top_p=0.95, max_new_tokens=64, stop=(0,))
    words = shlex.split(command(replace(board, answers=BoardAnswers(facts=facts, rows={})), board.rows[1]))
    flags = cli.commands["run"].make_context("run", words[2:]).params
    asked = ("generate", "samples", "temperature", "top_p", "max_new_tokens")
    assert [flags[name] for name in asked] == [30, 2, 0.7, 0.95, 64]
    assert flags["prompts"] is None
    asked_of = {"name": "AlpacaEval style", "source": "alpaca_eval", "licence": "CC BY-NC 4.0", "fingerprint": "0"}
    openly = facts.model_copy(update={"asked": PromptFacts(**asked_of)})
    assert "--prompts alpaca_eval" in command(
        replace(board, answers=BoardAnswers(facts=openly, rows={})), board.rows[1]
    )
    assert "--generate" not in command(board, board.rows[1])


def test_the_command_of_a_row_reads_data_known_by_their_content_from_where_they_were() -> None:
    board = table(LABELS).boards[-1]
    settings = BoardKey.of(SETTINGS | {"dataset": "content:0123456789abcdef"})
    words = shlex.split(command(replace(board, settings=settings, data="my data/train.jsonl"), board.rows[1]))
    assert words[words.index("--dataset") + 1] == "my data/train.jsonl"
    assert "--dataset" not in command(replace(board, settings=settings, data=""), board.rows[1])


def test_a_command_is_safe_to_paste_whatever_a_name_holds() -> None:
    board = table(["x; rm -rf ~ $(boom)"]).boards[0]
    words = shlex.split(command(board, board.rows[0]), posix=True)
    assert words[3] == "x; rm -rf ~ $:boom"  # as one word, its parenthesis read as options
    assert words[4] == "--models"


def test_a_board_of_forty_losses_and_three_models_has_a_row_for_each() -> None:
    content = table([f"loss{k}" for k in range(40)], models=("qwen", "gemma", "mistral"))
    text = render(content)
    assert text.count("<tr class=") == 4 * 42


def test_writing_a_run_makes_the_page_and_says_on_it_that_it_has_no_pictures(small_run: Path) -> None:
    lines: list[str] = []
    write(small_run, say=lines.append)
    text = (small_run / "leaderboard.html").read_text(encoding="utf-8")
    assert "No pictures: this page was made without them." in Page(text).text
    assert lines == []  # nobody asked for them
    assert "loss became NaN at step 7" in text
    before = text
    write(small_run, say=lines.append)
    assert (small_run / "leaderboard.html").read_text(encoding="utf-8") == before
