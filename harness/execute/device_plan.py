"""What the plan says of several devices: which is expected to take which cells, and for how long."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.execute.devices import Device
from harness.execute.placing import Placing
from harness.execute.plan_time import START_SECONDS, Work, cell_seconds
from harness.execute.time_left import clock
from harness.planning.estimates import Visits
from harness.planning.run_file import Run


@dataclass(kw_only=True)
class _Load:
    """What a device is expected to take."""

    device: Device
    model: str = ""
    """That it is at."""
    busy: float = 0.0
    """Seconds, or FLOPs where no time is known."""
    cells: Counter[str] = field(default_factory=Counter)


def devices_in_words(run: Run, works: Sequence[Work], tokens: Visits, placing: Placing) -> list[str]:
    """Return a line per GPU: what it is, what it is expected to take as cells go to whichever is free, how long."""
    if not any(device.is_gpu for device in placing.devices):
        return []
    seconds = [cell_seconds(run, work, tokens) for work in works]
    timed = None not in seconds
    costs = [(each or 0.0) if timed else work.cost.flops for each, work in zip(seconds, works, strict=True)]
    return [_line(load, placing, timed=timed) for load in _loads(works, costs, placing, START_SECONDS * timed)]


def _loads(works: Sequence[Work], costs: Sequence[float], placing: Placing, start: float) -> list[_Load]:
    """Return what each device takes where cells take what is estimated, one after the other on each."""
    left: dict[str, deque[float]] = {work.model: deque() for work in works}
    for work, cost in zip(works, costs, strict=True):
        left[work.model].append(cost)
    loads = [_Load(device=device) for device in placing.devices]
    while any(left.values()):
        free = [load for load in loads if any(_takes(load, model, left, placing) for model in left)]
        if not free:
            break
        load = min(free, key=lambda each: each.busy)
        if not left.get(load.model):
            at = Counter(each.model for each in loads)
            models = [model for model in left if _takes(load, model, left, placing)]
            load.model = max(models, key=lambda model: len(left[model]) / (1 + at[model]))
            load.busy += start
        load.busy += left[load.model].popleft()
        load.cells[load.model] += 1
    return loads


def _takes(load: _Load, model: str, left: dict[str, deque[float]], placing: Placing) -> bool:
    return bool(left[model]) and placing.may_begin(load.device, model, ())


def _line(load: _Load, placing: Placing, *, timed: bool) -> str:
    device, beside = load.device, placing.beside(load.device)
    counts = ", ".join(f"{count} of {model}" for model, count in load.cells.items())
    took = f"about {load.cells.total()} cells ({counts})" if counts else "no cell"
    time = f", {clock(load.busy)}" if timed and counts else ""
    several = f"; up to {beside} models beside each other" if beside > 1 else ""
    return f"{device} ({device.facts}): {took}{time}{several}"
