"""
What a cursor costs.

- delivery: 1,000 finished checkpoints are there; the time from the first one to the end of the
  stream, divided by their number, with a cursor and without, in turns. With one, each is done on
  disk before the next one is out. The floor is SQLite alone, which commits one row after another
  to a file of the same kind.
- size: the time until a cursor of so many rows is open and a run is claimed, and the time to ask
  it for one row. Beside it a cursor that has just been made.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
from _common import MILLISECOND, Spread, show_goal, show_machine, show_table, spread

import ckptstream
from ckptstream._cursor import Cursor, Memory, Record, State
from ckptstream._stores import profile

_LAYOUT = "step_{step}/DONE"
_COUNT = 1_000
_GOAL_DELIVERY = 0.5 * MILLISECOND
_GOAL_OPEN = 50 * MILLISECOND
_BATCH = 50_000


def _write_run(run: Path) -> None:
    for step in range(_COUNT):
        directory = run / f"step_{step}"
        directory.mkdir(parents=True)
        (directory / "DONE").touch()


async def _deliver(run: Path, cursor: Path | None) -> float:
    stream = ckptstream.follow(run, layout=_LAYOUT, cursor=cursor, timeout=0)
    async with stream:
        await anext(stream)
        began, count = time.perf_counter(), 0
        async for _ in stream:
            count += 1
        return (time.perf_counter() - began) / count


def _commit(path: Path) -> float:
    """SQLite alone: one row in each transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)")
    began = time.perf_counter()
    for _ in range(_COUNT):
        connection.execute("INSERT INTO rows (text) VALUES ('done')")
    took = time.perf_counter() - began
    connection.close()
    return took / _COUNT


def _deliveries(root: Path, rounds: int) -> None:
    run = root / "run"
    _write_run(run)
    without, with_cursor, floor = list[float](), list[float](), list[float]()
    for number in range(-1, rounds):  # The first one is not counted.
        times = [
            anyio.run(_deliver, run, None),
            anyio.run(_deliver, run, root / f"{number}.db"),
            _commit(root / f"{number}.sqlite"),
        ]
        if number >= 0:
            for taken, values in zip(times, (without, with_cursor, floor), strict=True):
                values.append(taken)
    beyond = spread(a - b for a, b in zip(with_cursor, without, strict=True))
    rows = {
        "without a cursor": spread(without),
        "with one": spread(with_cursor),
        "what it costs": beyond,
        "SQLite alone: one commit": spread(floor),
    }
    _show("One delivery, ms: median over the rounds (min-max)", rows)
    shown = f"{beyond.show(MILLISECOND)} ms"
    show_goal("a cursor costs at most 0.5 ms a delivery", shown, beyond.median <= _GOAL_DELIVERY)


def _fill(path: Path, rows: int) -> None:
    cursor = Cursor(str(path), profile)
    run = cursor.claim("/runs/full").run
    for first in range(0, rows, _BATCH):
        numbers = range(first, min(rows, first + _BATCH))
        done = Memory(State.DONE)
        cursor.write([(run, Record(f"step_{n}", str(n), n, done)) for n in numbers], [])
    cursor.close()


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _sizes(root: Path, rounds: int, rows: int) -> None:
    opened: dict[str, list[float]] = {}
    asked: dict[str, list[float]] = {}
    for count in (0, rows):
        title = f"{count:,} rows"
        path = root / f"size-{count}.db"
        _fill(path, count)
        opened[title], asked[title] = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            cursor = Cursor(str(path), profile)
            run = cursor.claim("/runs/full").run
            opened[title].append(time.perf_counter() - began)
            names = [f"step_{number * 997 % max(rows, 1)}" for number in range(1_000)]
            times = [_timed(partial(cursor.recall, run, name, name[5:])) for name in names]
            asked[title].append(statistics.median(times))
            cursor.close()
    _show("Open and claim a run, ms", {title: spread(each) for title, each in opened.items()})
    _show("Ask for one row, ms", {title: spread(each) for title, each in asked.items()})
    last = spread(opened[f"{rows:,} rows"])
    shown = f"{last.show(MILLISECOND)} ms"
    show_goal(f"{rows:,} rows open within 50 ms", shown, last.median <= _GOAL_OPEN)


def _show(title: str, rows: dict[str, Spread]) -> None:
    show_table(title, ["", "ms"], [[name, value.show(MILLISECOND)] for name, value in rows.items()])


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description="what a cursor costs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    show_machine("anyio")
    with tempfile.TemporaryDirectory(prefix="ckptstream-cursor-") as directory:
        _deliveries(Path(directory), options.rounds)
        _sizes(Path(directory), options.rounds, options.rows)


if __name__ == "__main__":
    main()
