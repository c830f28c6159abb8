"""How a stream looks on a terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from statistics import median

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .._model import RunStatus, Status
from ._activity import Activities, Activity
from ._units import NOTHING, age, shown

_BLOCKS = "▁▂▃▄▅▆▇█"
_AROUND = 4  # lines: the head, what is left out, the progress, and where the cursor stays
_WIDE = 100  # columns from which there is room for the cadence in words
_BAR = 30  # columns


class View:
    """
    A row for each run, as many as there is room for; those first in which something goes on.

    Args:
        status: What the stream knows.
        activities: What has happened.
        until_step: Where all runs are to get, or None.
        evaluates: Whether anything is evaluated.
    """

    def __init__(
        self, status: Status, activities: Activities, until_step: int | None, evaluates: bool
    ) -> None:
        self._status = status
        self._activities = activities
        self._until = until_step
        self._evaluates = evaluates

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich asks for: for a terminal of just this size."""
        room = max(1, console.height - _AROUND)
        ordered = sorted(self._status.runs, key=self._importance)
        drawn, left_out = ordered[:room], ordered[room:]
        parts: list[RenderableType] = [self._table(drawn, wide=options.max_width >= _WIDE)]
        waits = [pattern for pattern in self._status.patterns if not pattern.runs]
        parts += [_line(f"{each.pattern}: {each.waiting_for}") for each in waits[:1]]
        if left_out:
            missed = sum(run.missed_count for run in left_out)
            rest = f", {missed} checkpoints missed" if missed else ""
            parts.append(_line(f"and {len(left_out)} more runs{rest}"))
        if self._until is not None and ordered:
            parts.append(self._progress(self._until))
        yield Group(*parts)

    def _importance(self, run: RunStatus) -> tuple[bool, bool, float, str]:
        activity = self._activities.of(run.run)
        newest = activity.steps[-1][1] if activity.steps else 0.0
        return not activity.evaluated, not (run.unfinished or run.queued), -newest, run.run

    def _table(self, runs: Sequence[RunStatus], *, wide: bool) -> Table:
        missed = any(run.missed_count for run in runs)
        columns = [("run", 3), ("newest", 0), ("age", 0), ("cadence", 0), ("waiting for", 4)]
        columns += [("missed", 0)] if missed else []
        columns += [("evaluated", 2)] if self._evaluates else []
        table = Table(box=None, expand=True, pad_edge=False, header_style="bold")
        for title, share in columns:
            table.add_column(title, ratio=share or None, no_wrap=True, overflow="ellipsis")
        for run in runs:
            cells = self._cells(run, wide=wide)
            table.add_row(*(cells[title] for title, _ in columns))
        return table

    def _cells(self, run: RunStatus, *, wide: bool) -> dict[str, Text]:
        activity = self._activities.of(run.run)
        newest, finished = activity.steps[-1] if activity.steps else (None, None)
        since = None if finished is None else time.time() - finished
        return {
            "run": _cell(run.run),
            "newest": _cell(_step(run, newest)),
            "age": _cell(age(since)),
            "cadence": _cell(_cadence(activity.intervals, wide=wide)),
            "waiting for": _cell(_waiting(run), "yellow" if run.unanswered is not None else ""),
            "missed": _cell(str(run.missed_count or ""), "red"),
            "evaluated": _cell(_evaluated(activity)),
        }

    def _progress(self, until: int) -> Table:
        runs = self._status.runs
        steps = [run.newest.step or 0 if run.newest is not None else 0 for run in runs]
        done = sum(min(step, until) for step in steps)
        line = Table.grid(padding=(0, 1))
        words = f"{done / (until * len(runs)) if until else 1:.0%} of the way to step {until:,}"
        behind = [run.run for run, step in zip(runs, steps, strict=True) if step < until]
        times = [self._activities.of(run).remaining(until) for run in behind]
        known = [remaining for remaining in times if remaining is not None]
        if behind and len(known) == len(times):
            words += f", {age(max(known))} to train"
        bar = ProgressBar(total=max(1, until * len(runs)), completed=done, width=_BAR)
        line.add_row(bar, _cell(words))
        return line


def _step(run: RunStatus, step: int | None) -> str:
    if run.newest is None:
        return NOTHING
    return os.path.basename(run.newest.path) if step is None else f"{step:,}"


def _cadence(intervals: Sequence[float], *, wide: bool) -> str:
    """The intervals as bars; where there is room, also the one in the middle in words."""
    if not intervals:
        return NOTHING
    longest = max(*intervals, 1e-9)
    last = len(_BLOCKS) - 1
    bars = "".join(_BLOCKS[round(interval / longest * last)] for interval in intervals)
    return f"{bars} {age(median(intervals))}" if wide else bars


def _waiting(run: RunStatus) -> str:
    words = run.waiting_for
    if run.unfinished:
        name, reason = list(run.unfinished.items())[-1]
        others = f" (and {len(run.unfinished) - 1} more)" if len(run.unfinished) > 1 else ""
        words = f"{name}: {reason}{others}"
    if run.queued:
        words = f"{run.queued} to come; {words}"
    if run.set_aside:
        words = f"{len(run.set_aside)} set aside; {words}"
    return words


def _evaluated(activity: Activity) -> str:
    now = time.monotonic()
    under_way = activity.evaluated.items()
    return ", ".join(
        f"{age(now - since)}: {os.path.basename(ckpt.path)}" for ckpt, since in under_way
    )


def _cell(words: str, style: str = "") -> Text:
    return Text(shown(words), style)


def _line(words: str) -> Text:
    text = _cell(words, "dim")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
