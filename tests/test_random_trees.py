"""
Random changes of a small tree against a model of it: what is delivered, and what is missed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from conftest import BACKENDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from steering import drained
from sweeping import LAYOUT, named

from ckptstream import CheckpointStream, follow
from ckptstream.testing import ManualWatcher

INTERVAL = 100.0  # seconds between two deliveries of a run, so that queues build up

NAMES = ["a", "ab", "b", ".h"]
STEPS = [1, 2, 3]

names = st.sampled_from(NAMES)
changes = st.one_of(
    st.tuples(st.just("make"), names),
    st.tuples(st.just("save"), names, st.sampled_from(STEPS)),
    st.tuples(st.just("save"), names, st.sampled_from(STEPS)),
    st.tuples(st.just("half"), names, st.sampled_from(STEPS)),
    st.tuples(st.just("delete"), names, st.sampled_from(STEPS)),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("empty"), names),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("exchange"), names, names),
    st.tuples(st.just("file"), names),
    st.tuples(st.just("root_away")),
    st.tuples(st.just("back")),
)
# Some changes, then a look at them, then perhaps time for the next delivery.
rounds = st.lists(st.tuples(st.lists(changes, min_size=1, max_size=5), st.booleans()), max_size=14)


class Tree:
    """
    `sweeps/*/ckpt` on the disk. No inode and no time is ever used again.
    """

    def __init__(self, base: Path) -> None:
        self.root = base / "sweeps"
        self._base = base
        self._aside = base / "root-aside"
        self._count = 1_000_000_000
        self.root.mkdir()

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _throw_away(self, path: Path) -> None:
        if os.path.lexists(path):
            path.rename(self._base / f"trash-{self._next()}")

    def change(self, kind: str, *arguments: str | int) -> None:
        """
        Make one change, if there is what it needs.
        """
        if self.root.is_dir() or kind == "back":
            getattr(self, kind)(*arguments)
        for directory, _, _ in os.walk(self._base):
            if "step_" not in directory:
                os.utime(directory, (self._next(), self._next()))

    def make(self, name: str) -> None:
        if not os.path.lexists(self.root / name):
            (self.root / name).mkdir()

    def save(self, name: str, step: int) -> None:
        self.half(name, step)
        done = self.root / name / f"ckpt/step_{step}/DONE"
        if done.parent.is_dir():
            done.touch()
            os.utime(done, (self._next(), self._next()))

    def half(self, name: str, step: int) -> None:
        self.make(name)
        if (self.root / name).is_dir():
            self.delete(name, step)
            (self.root / name / f"ckpt/step_{step}").mkdir(parents=True)

    def delete(self, name: str, step: int) -> None:
        self._throw_away(self.root / name / f"ckpt/step_{step}")

    def remove(self, name: str) -> None:
        self._throw_away(self.root / name)

    def empty(self, name: str) -> None:
        self._throw_away(self.root / name / "ckpt")

    def rename(self, old: str, new: str) -> None:
        if os.path.lexists(self.root / old) and not os.path.lexists(self.root / new):
            (self.root / old).rename(self.root / new)

    def exchange(self, one: str, two: str) -> None:
        if all(os.path.lexists(self.root / name) for name in (one, two)) and one != two:
            for old, new in ((one, ".away"), (two, one), (".away", two)):
                (self.root / old).rename(self.root / new)

    def file(self, name: str) -> None:
        self.remove(name)
        (self.root / name).touch()

    def root_away(self) -> None:
        self._throw_away(self._aside)
        self.root.rename(self._aside)

    def back(self) -> None:
        if not self.root.is_dir():
            if self._aside.is_dir():
                self._aside.rename(self.root)
            else:
                self.root.mkdir()

    def runs(self) -> Iterator[tuple[str, dict[int, int | None]]]:
        """
        What matches now: each run, and its checkpoints with the time of what finished them.
        """
        for path in sorted(self.root.glob("*/ckpt")) if self.root.is_dir() else ():
            if path.parent.name.startswith(".") or not path.is_dir():
                continue
            found = dict[int, int | None]()
            for entry in sorted(path.iterdir()):
                done = entry / "DONE"
                time = done.stat().st_mtime_ns if done.exists() else None
                found[int(entry.name.removeprefix("step_"))] = time
            yield path.parent.name, found


class Record:
    """
    What the model knows of one run.
    """

    def __init__(self) -> None:
        self.entries: dict[int, int | None] = {}
        self.accepted: dict[int, int | None] = {}
        self.queue: dict[int, int | None] = {}
        self.eligible = -INTERVAL
        self.missed: list[tuple[int, bool]] = []

    def look(self, found: dict[int, int | None]) -> None:
        for step in [step for step in self.entries if step not in found]:
            if step in self.queue:
                del self.queue[step], self.accepted[step]
                self.missed.append((step, True))
            elif self.entries[step] is None:
                self.missed.append((step, False))
        for step, time in sorted(found.items()):
            if time is None:
                if self.queue.pop(step, None) is not None:
                    del self.accepted[step]
                    self.missed.append((step, True))
            elif self.accepted.get(step) != time:
                if self.queue.pop(step, None) is not None:
                    self.missed.append((step, True))
                self.queue[step] = self.accepted[step] = time
        self.entries = dict(found)


class Model:
    """
    A stream over `sweeps/*/ckpt`, as the documentation has it.
    """

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    def drain(self, tree: Tree, now: float) -> list[tuple[str, int]]:
        found = dict(tree.runs())
        for name in found:
            self.records.setdefault(name, Record())
        came = list[tuple[str, int]]()
        for name, record in self.records.items():
            record.look(found.get(name, {}))
            if record.queue and record.eligible <= now:
                step = next(iter(record.queue))
                del record.queue[step]
                record.eligible = now + INTERVAL
                came.append((f"{name}/ckpt", step))
        return sorted(came)

    def missed(self) -> dict[str, list[tuple[int, bool]]]:
        return {
            f"{name}/ckpt": sorted(record.missed)
            for name, record in self.records.items()
            if record.missed
        }


def missed(stream: CheckpointStream, root: Path) -> dict[str, list[tuple[int | None, bool]]]:
    """
    The same of a stream.
    """
    return {
        os.path.relpath(run.run, root): sorted((m.step, m.finished) for m in run.missed)
        for run in stream.status().runs
        if run.missed
    }


async def compare(
    paths: Callable[[Path], list[Path]], plan: list[tuple[list[tuple[str | int, ...]], bool]]
) -> None:
    with tempfile.TemporaryDirectory() as base:
        tree, model, watcher = Tree(Path(base)), Model(), ManualWatcher()
        stream = follow(
            *paths(tree.root), layout=LAYOUT, min_interval_secs=INTERVAL, watcher=watcher
        )
        for wanted, passes in plan:
            for kind, *arguments in wanted:
                tree.change(str(kind), *arguments)
            if passes:
                await anyio.sleep(INTERVAL + 1)
            watcher.touch()
            expected = model.drain(tree, anyio.current_time())
            came = sorted(named(tree.root, await drained(stream, watcher)), key=str)
            assert expected == came
            assert model.missed() == missed(stream, tree.root)
            runs = {os.path.relpath(run.run, tree.root) for run in stream.status().runs}
            assert {f"{name}/ckpt" for name, _ in tree.runs()} | set(model.missed()) == runs


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("backend", ["virtual-asyncio", "virtual-trio"])
@pytest.mark.parametrize("examples", [25, pytest.param(150, marks=pytest.mark.thorough)])
def test_any_changes_of_a_tree(backend: str, overlap: bool, examples: int) -> None:
    """
    After each few of them a look: it delivers, misses and shows what the model does.
    """

    def paths(root: Path) -> list[Path]:
        return [root / "*/ckpt", *[root / "a*/ckpt", root / "*b/*"] * overlap]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(rounds)
    def check(plan: list[tuple[list[tuple[str | int, ...]], bool]]) -> None:
        name, options = BACKENDS[backend]()
        anyio.run(partial(compare, paths, plan), backend=name, backend_options=options)

    check()
