"""
What it costs to look at a run with 10,000 finished checkpoints of 8 files each.

The first look goes over all of them. Its floor is `os.scandir` over the same tree, which only lists
it; what the package asks the system for is also asked once more, alone, in a loop that does nothing
else, which is the least that any program in Python could take. TensorFlow's and Orbax's own calls
for the latest checkpoint stand beside it, each in a process of its own: they ask for less, since
they need not know what else is finished.

Each later look starts from an event's names. It is measured in a stream of asyncio that waits, one
commit at a time: the look itself, in its thread, and what passes from the commit (`os.rename`) to
the body of the loop. Whether it depends on how many checkpoints lie there is told by a run with 10.

Where it polls, the look that finds a new checkpoint is compared with `os.listdir` of the run.

The files are small, and lie in memory (`/dev/shm`) if there is room: it is the package that is
measured, not the disk. All take turns in each round. Looks, listings and calls are measured in
processor time, what the system does for them included, since a machine may be busy with something
else; "in all" and "heard" are what passes on the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

from _common import (
    MILLISECOND,
    Spread,
    medians,
    ratio,
    show_goal,
    show_machine,
    show_table,
    spread,
)
from _first_looks import (
    Calls,
    First,
    Later,
    counted_calls,
    first_look,
    later_looks,
    list_run,
    scan,
)
from _first_peers import PEERS, Peer
from _first_trees import KINDS, Tree

_FEW = 10  # checkpoints in the run that later looks are compared with
_TWICE = 2.0
_LATER = 3 * MILLISECOND
_MEMORY = "/dev/shm"
_BYTES = 4096  # that a small file takes, in memory


class Numbers(NamedTuple):
    """
    What was measured of one kind of checkpoints; each list has one item per round.

    Attributes:
        floor: Of `os.scandir`.
        first: First looks, by layout.
        calls: What was asked of the system until all was known, each per checkpoint, by layout.
        bare: Those calls alone, made once more, by layout.
        peers: Other packages' calls.
        later: Looks after a commit, by layout, how many checkpoints there are, and watcher.
        listdir: Of `os.listdir`, by how many checkpoints there are.
    """

    floor: list[float]
    first: dict[str, list[First]]
    calls: dict[str, str]
    bare: dict[str, list[float]]
    peers: dict[str, list[float]]
    later: dict[tuple[str, int, str], list[list[Later]]]
    listdir: dict[int, list[float]]


def _measure(kind: str, root: str, sizes: tuple[int, int], rounds: int, commits: int) -> Numbers:
    layouts = (KINDS[kind].layout, "auto")
    few, many = trees = [Tree(f"{root}/{kind}-{size}", KINDS[kind], size) for size in sizes]
    listings = {size: list[float]() for size in sizes}
    numbers = Numbers([], {name: [] for name in layouts}, {}, {}, {}, {}, listings)
    made = {layout: _calls(many, layout) for layout in layouts}
    for layout, calls in made.items():
        numbers.calls[layout] = _count(calls, many.count)
    peers = [Peer(name, many.run) for name, peer in PEERS.items() if peer.reads == kind]
    for number in range(rounds):
        print(f"{kind}: round {number + 1} of {rounds}", file=sys.stderr)
        numbers.floor.append(scan(many.run))
        for layout in layouts:
            numbers.first[layout].append(asyncio.run(first_look(many.run, layout)))
            numbers.bare.setdefault(layout, []).append(made[layout].repeat())
        for peer in peers:
            numbers.peers.setdefault(peer.name, []).append(peer.ask())
        for tree in trees:
            numbers.listdir[tree.count].append(list_run(tree.run))
    for peer in peers:
        peer.close()
    _measure_later(numbers, (few, many), layouts, rounds, commits)
    for tree in trees:
        tree.remove()
    return numbers


def _measure_later(
    numbers: Numbers, trees: Sequence[Tree], layouts: Sequence[str], rounds: int, commits: int
) -> None:
    sizes = [tree.count for tree in trees]
    for _ in range(rounds):
        for layout in layouts:
            for size, tree in zip(sizes, trees, strict=True):
                for watcher in ("auto", "poll"):
                    found = asyncio.run(later_looks(tree, layout, watcher, commits))
                    numbers.later.setdefault((layout, size, watcher), []).append(found)
                    gc.collect()


def _calls(tree: Tree, layout: str) -> Calls:
    with counted_calls() as calls:
        asyncio.run(first_look(tree.run, layout))
    return calls


def _count(calls: Calls, checkpoints: int) -> str:
    names = ("stat", "listdir", "open", "bytes")
    return ", ".join(f"{calls.counts[name] / checkpoints:.1f} {name}" for name in names)


Results = dict[str, Numbers]


def _show_first(results: Results, many: int) -> None:
    rows = list[list[str]]()
    for kind, numbers in results.items():
        rows.append(
            [f"{kind}: os.scandir", spread(numbers.floor).show(MILLISECOND, 0), "1", "", ""]
        )
        for name, seconds in numbers.peers.items():
            times = ratio(seconds, numbers.floor).show(1, 2)
            rows.append([f"{kind}: {name}", spread(seconds).show(MILLISECOND, 2), times, "", ""])
        for layout, found in numbers.first.items():
            first, others, complete = (list(each) for each in zip(*found, strict=True))
            cells = [
                f"{kind}: layout={layout!r}",
                spread(first).show(MILLISECOND, 0),
                ratio(first, numbers.floor).show(1, 2),
                spread(others).show(MILLISECOND, 0) if max(others) else "",
                spread(complete).show(MILLISECOND, 0),
                ratio(numbers.bare[layout], numbers.floor).show(1, 2),
                numbers.calls[layout],
            ]
            rows.append(cells)
    title = f"first look at {many:,} checkpoints: median of the rounds (min-max)"
    headers = [
        *("", "ms", "times the floor", "once settled, ms", "in all, ms"),
        *("its calls alone, times the floor", "calls for each"),
    ]
    show_table(title, headers, [[*row, *[""] * (len(headers) - len(row))] for row in rows])


def _rounds(found: list[list[Later]], value: Callable[[Later], float]) -> list[float]:
    return medians([[value(later) for later in each] for each in found])


def _show_later(results: Results, sizes: tuple[int, int]) -> None:
    rows = list[list[str]]()
    for kind, numbers in results.items():
        for layout in numbers.first:
            few, many = (numbers.later[layout, size, "auto"] for size in sizes)
            looks = [_rounds(found, lambda later: later.look) for found in (few, many)]
            heard = [_rounds(found, lambda later: later.heard) for found in (few, many)]
            full = any(later.full for found in (few, many) for each in found for later in each)
            rows.append(
                [
                    f"{kind}: layout={layout!r}",
                    *(spread(each).show(MILLISECOND, 2) for each in looks),
                    ratio(looks[1], looks[0]).show(1, 2),
                    *(spread(each).show(MILLISECOND, 2) for each in heard),
                    "went over all" if full else "",
                ]
            )
    sizes_ = [f"{size:,}" for size in sizes]
    headers = [
        "",
        *(f"look, {s}, ms" for s in sizes_),
        "ratio",
        *(f"heard, {s}, ms" for s in sizes_),
    ]
    show_table("after an event: the longest look of each commit", [*headers, ""], rows)


def _show_polling(results: Results, sizes: tuple[int, int]) -> None:
    rows = list[list[str]]()
    for kind, numbers in results.items():
        for layout in numbers.first:
            looks = [
                _rounds(numbers.later[layout, size, "poll"], lambda later: later.look)
                for size in sizes
            ]
            cells = [f"{kind}: layout={layout!r}"]
            for size, seconds in zip(sizes, looks, strict=True):
                cells += [spread(seconds).show(MILLISECOND, 2)]
                cells += [spread(numbers.listdir[size]).show(MILLISECOND, 2)]
            rows.append([*cells, ratio(looks[1], numbers.listdir[sizes[1]]).show(1, 1)])
    headers = [f"{what}, {size:,}, ms" for size in sizes for what in ("look", "listdir")]
    show_table("where it polls: the look that finds a commit", ["", *headers, "times"], rows)


def _show_goals(results: Results, sizes: tuple[int, int]) -> None:
    for kind, numbers in results.items():
        for layout, found in numbers.first.items():
            what = f"{kind}, layout={layout!r}"
            times = ratio([each.first for each in found], numbers.floor).median
            show_goal(
                f"{what}: first look at most twice os.scandir", f"{times:.1f}", times <= _TWICE
            )
            few, many = (
                spread(_rounds(numbers.later[layout, size, "auto"], lambda later: later.look))
                for size in sizes
            )
            _show_goals_of_events(what, few, many)


def _show_goals_of_events(what: str, few: Spread, many: Spread) -> None:
    times = many.median / few.median
    show_goal(f"{what}: a later look the same for few and many", f"{times:.2f}", times <= _TWICE)
    shown = f"{many.median / MILLISECOND:.2f} ms"
    show_goal(f"{what}: a later look under 3 ms", shown, many.median < _LATER)


def _has_room(directory: str, files: int) -> bool:
    try:
        return shutil.disk_usage(directory).free > 2 * files * _BYTES
    except OSError:
        return False


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description="what the first look costs, and later ones")
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commits", type=int, default=5, help="in each round")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--directory", help="where to measure; default: in memory, or a temporary")
    arguments = parser.parse_args()
    memory = os.path.isdir(_MEMORY) and _has_room(_MEMORY, 10 * arguments.checkpoints)
    directory = arguments.directory or (_MEMORY if memory else None)
    sizes = (_FEW, arguments.checkpoints)
    with tempfile.TemporaryDirectory(prefix="ckptstream-first-", dir=directory) as root:
        results = {
            kind: _measure(kind, root, sizes, arguments.rounds, arguments.commits)
            for kind in arguments.kinds
        }
    show_machine("anyio", "tensorflow", "orbax-checkpoint")
    print(f"load: {os.getloadavg()[0]:.1f} at the end")
    _show_first(results, sizes[1])
    _show_later(results, sizes)
    _show_polling(results, sizes)
    _show_goals(results, sizes)


if __name__ == "__main__":
    main()
