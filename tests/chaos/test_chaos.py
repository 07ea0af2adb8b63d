"""A run that is disturbed ends in the undisturbed board or in one clear error: `tox -e chaos`; here a short form."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.damage import damage_each, kinds, stopped_midway
from chaos.kills import kill_at_random
from chaos.outcomes import Tally, content
from chaos.places import CLOCK, NO_LOCKS, fill_disks, patched, run_twice_at_once
from chaos.runs import World
from forked_commands import ForkedCommands

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="finds what a run has started in Linux's /proc"
)
WAYS = ("flipped", "flipped", "cut", "emptied")
SEED = int(os.environ.get("HARNESS_CHAOS_SEED") or random.randrange(10**6))


@pytest.fixture(scope="module")
def world(environment: dict[str, str], forked: ForkedCommands, cache: Path) -> World:
    return World(environment=environment, forked=forked, cache=cache)


@pytest.fixture(scope="module")
def undisturbed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    done = world.run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def tally(undisturbed: Path) -> Iterator[Tally]:
    tally = Tally(undisturbed=content(undisturbed))
    print(f"\nHARNESS_CHAOS_SEED={SEED}")
    yield tally
    print("\n".join(("", f"HARNESS_CHAOS_SEED={SEED}", *tally.table())))
    if path := os.environ.get("HARNESS_CHAOS_CSV"):
        tally.write(Path(path))


@pytest.fixture
def watched(tally: Tally) -> Iterator[Tally]:
    """Fail where one of the disturbances of a test ends in a silent difference or in a traceback."""
    before = len(tally.faults())
    yield tally
    assert tally.faults()[before:] == []


def test_a_run_that_is_killed_twice_ends_in_the_undisturbed_board(world: World, watched: Tally, tmp_path: Path) -> None:
    assert kill_at_random(world, watched, tmp_path, 2, SEED, each=2) == 2


@pytest.mark.chaos
def test_so_it_does_after_45_kills_at_random_moments(world: World, watched: Tally, tmp_path: Path) -> None:
    kill_at_random(world, watched, tmp_path, 45, SEED)


@pytest.mark.chaos
@pytest.mark.vllm
def test_and_after_five_with_vllm(world: World, tally: Tally, tmp_path: Path) -> None:
    folder = tmp_path / "undisturbed"
    done = world.run(folder, scorer="vllm")
    assert done.returncode == 0, done.stdout + done.stderr
    of_vllm = Tally(undisturbed=content(folder), rows=tally.rows)
    before = len(tally.faults())
    kill_at_random(world, of_vllm, tmp_path, 5, SEED, scorer="vllm")
    assert tally.faults()[before:] == []


@pytest.mark.chaos
def test_a_file_of_a_finished_run_that_is_damaged(
    world: World, watched: Tally, undisturbed: Path, tmp_path: Path
) -> None:
    damage_each(world, watched, tmp_path, "run, finished", undisturbed, world.cache, seed=SEED, ways=WAYS)


@pytest.mark.chaos
def test_a_file_of_a_run_under_way_that_is_damaged(
    world: World, watched: Tally, undisturbed: Path, tmp_path: Path
) -> None:
    folder = stopped_midway(world, tmp_path / "midway", SEED)
    finished = kinds(undisturbed, undisturbed.rglob("*")).keys() - {"cells/*/trained.json"}
    damage_each(world, watched, tmp_path, "run, under way", folder, world.cache, seed=SEED, but=finished)


@pytest.mark.chaos
def test_a_file_of_the_cache_that_is_damaged(world: World, watched: Tally, tmp_path: Path) -> None:
    damage_each(world, watched, tmp_path, "cache", tmp_path / "none", world.cache, seed=SEED)


@pytest.mark.chaos
def test_a_disk_that_is_full(world: World, watched: Tally, tmp_path: Path) -> None:
    try:
        fill_disks(world, watched, tmp_path / "disk", (8_192, 2_000_000, 6_000_000, 12_000_000, 18_000_000, 24_000_000))
    except PermissionError as error:
        pytest.skip(str(error))


@pytest.mark.chaos
def test_a_clock_that_jumps(world: World, watched: Tally, tmp_path: Path) -> None:
    for seed in range(2):
        patched(world, watched, tmp_path / str(seed), "clock", CLOCK.replace("SEED", str(SEED + seed)))


@pytest.mark.chaos
def test_a_file_system_without_locks(world: World, watched: Tally, tmp_path: Path) -> None:
    patched(world, watched, tmp_path, "no locks", NO_LOCKS)


@pytest.mark.chaos
def test_a_second_run_at_once(world: World, watched: Tally, tmp_path: Path) -> None:
    run_twice_at_once(world, watched, tmp_path)
