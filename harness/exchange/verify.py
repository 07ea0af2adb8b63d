"""Whether a run folder that somebody hands in is sound: each file by itself, and each against the others.

What this cannot find: log-probs that were made up. Rows, rewards, metrics and board would agree; only running the cell
again would tell. Works without torch, and says then that rewards were not computed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.api.errors import HarnessError
from harness.exchange.answer_checks import check_answers, check_judgements
from harness.exchange.cell_checks import (
    Check,
    check_hashes,
    check_metrics,
    check_owners,
    check_records,
    check_tables,
)
from harness.exchange.grid_checks import check_grid
from harness.exchange.identity_checks import check_keys, check_labels
from harness.exchange.installed_losses import InstalledLosses
from harness.exchange.logp_checks import check_base, check_baselines, check_holes
from harness.exchange.point_checks import check_points
from harness.exchange.reward_checks import check_rewards
from harness.exchange.run_checks import check_boards, check_fingerprints, check_pairs
from harness.exchange.setting_checks import check_settings, check_starts
from harness.exchange.spend_checks import check_spend
from harness.exchange.untrusted import RunContents, find_cells
from harness.run_folder.manifest import Manifest, known_manifest
from harness.run_folder.paths import GENERATIONS, JUDGEMENTS, MANIFEST, PLOTS, is_run

PASSED, FAILED = 0, 3
"""Exit codes; 2 is for a folder that is no run at all, as everywhere."""
NOT_REBUILT = "not rebuilt: first the cells must be sound"
NOT_CHECKED = (
    "Not checked: that the log-probs come from the training that the records describe; run a cell again to see. "
    f"The files in {PLOTS}/ are drawn anew by harness leaderboard."
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was checked of a run folder, and what is wrong with it."""

    run: Path
    checks: tuple[Check, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, as file, got, expected, do."""
        return tuple(problem for check in self.checks for problem in check.problems)

    @property
    def exit_code(self) -> int:
        """0: nothing is wrong; 3: something is."""
        return FAILED if self.problems else PASSED

    def text(self) -> str:
        """Return the verdict for people: what was checked, counted, then each problem."""
        number = len(self.problems)
        head = f"{self.run}: {f'{number} problem' + 's' * (number != 1) if number else 'verified'}"
        lines = [head]
        for check in self.checks:
            lines.append(f"  {'FAILED' if check.problems else 'ok    '}  {check.summary}")
            lines += [f"          - {problem}" for problem in check.problems]
            lines += [f"          note: {note}" for note in check.notes]
        return "\n".join([*lines, f"  {NOT_CHECKED}"])


def verify(run: Path) -> Verdict:
    """Return the verdict on a run folder; it is read, never written. Raises `HarnessError` for what is no run.

    Whatever the folder holds, a problem with a cell does not keep the others from being checked. The board is rebuilt
    only where every record and table is sound, those of answers and judges too.
    """
    contents = find_cells(run)
    inside = sorted(folder.name for folder in run.iterdir() if is_run(folder))
    records, tables, answers = check_records(contents), check_tables(contents), _answer_checks(run, contents)
    sound = not any(check.problems for check in (records, tables, *answers))
    checks = [
        records,
        check_hashes(contents),
        tables,
        check_owners((*contents.whole, *contents.dev)),
        check_metrics((*contents.whole, *contents.dev)),
        *_cross_checks(run, contents),
        *answers,
        *(check_boards(run) if sound else [Check(summary="leaderboard", notes=(NOT_REBUILT,))]),
    ]
    if inside:
        names = ", ".join(inside)
        checks.append(Check(summary=f"{names}: not looked into, each a run folder of its own; verify it by itself"))
    return Verdict(run=run, checks=tuple(checks))


def _cross_checks(run: Path, contents: RunContents) -> list[Check]:
    """Return whether what stands in the folder fits together: within a record, between cells, with the manifest."""
    installed = InstalledLosses.here()
    cells, whole = contents.cells, contents.whole
    return [
        check_keys(cells),
        check_labels(cells, installed),
        check_spend(cells, installed.find),
        check_pairs(whole),
        *([check_pairs(contents.dev)] if contents.dev else []),
        *_manifest_checks(run, contents),
        check_baselines(whole),
        check_holes(whole),
        check_rewards((*whole, *contents.dev), installed),
    ]


def _answer_checks(run: Path, contents: RunContents) -> list[Check]:
    """Return whether answers and what judges said of them are sound; nothing for a run without any."""
    files = any((cell.record.folder / name).exists() for cell in contents.whole for name in (GENERATIONS, JUDGEMENTS))
    if not files and not any(cell.record.generation for cell in contents.whole):
        return []
    return [check_answers(contents.whole), check_judgements(run, contents.whole)]


def _manifest_checks(run: Path, contents: RunContents) -> list[Check]:
    """Return whether the cells fit the manifest; where it cannot be read, that, and whether they fit each other."""
    cells = contents.cells
    try:
        manifest = known_manifest(run)
    except HarnessError as error:
        problem = str(error).removeprefix(f"{run}/")
        return [Check(summary=f"{MANIFEST} can be read", problems=(problem,)), check_fingerprints(Manifest(), cells)]
    return [
        check_fingerprints(manifest, cells),
        check_starts(manifest, cells),
        check_settings(run, manifest, cells),
        check_points(manifest, cells),
        check_grid(manifest, contents),
        check_base(manifest, contents.whole),
    ]


def run_verify(run: Path) -> tuple[str, int]:
    """Return what `harness verify RUN` says, and its exit code: 0 nothing is wrong, 3 something is."""
    verdict = verify(run)
    return verdict.text(), verdict.exit_code
