"""
Any order of saves, rewrites, deletions, rollbacks, lost events, cancellations, crashes and
restarts against a model of what a stream with a cursor promises.
"""

from __future__ import annotations

import copy
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from conftest import BACKENDS
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sweeping import HOUR, LAYOUT

import ckptstream
from ckptstream import Checkpoint, CheckpointStream
from ckptstream._cursor import Record
from ckptstream._cursor._file import CursorFile
from ckptstream._stream._ledger import WATCHED_FINISHED
from ckptstream.testing import ManualWatcher

INTERVAL = 100.0  # seconds between two deliveries, where they are asked for
LONG = 4000.0  # seconds after which all that waits for time has waited long enough

EXAMPLES = 25  # histories on each Python
MANY = 150  # on one

Key = tuple[str, str]  # the name and the generation of a checkpoint

# Nobody tells of them by name: of more than these, a rewritten one is found by the safety look.
STEPS = range(1, WATCHED_FINISHED + 1)
steps = st.sampled_from(STEPS)


class Disk:
    """
    What the trainer writes. No time is ever used again.
    """

    def __init__(self, base: Path) -> None:
        self.run = base / "run"
        self._aside = base / "aside"
        self._count = 1_000_000_000
        self.run.mkdir()

    def _stamp(self, path: Path) -> None:
        self._count += 1
        os.utime(path, (self._count, self._count))

    def path(self, step: int) -> Path:
        return self.run / f"step_{step}"

    def half(self, step: int) -> None:
        self.delete(step)
        self.path(step).mkdir()
        self._changed()

    def finish(self, step: int) -> None:
        if self.path(step).is_dir():
            (self.path(step) / "DONE").touch()
            self._stamp(self.path(step) / "DONE")
            self._changed()

    def delete(self, step: int) -> None:
        if self.path(step).is_dir():
            shutil.rmtree(self.path(step))
            self._changed()

    def _changed(self) -> None:
        self._stamp(self.run)

    @property
    def is_there(self) -> bool:
        return self.run.is_dir()

    def move(self) -> None:
        """
        Move the run away, or back.
        """
        if self.is_there:
            self.run.rename(self._aside)
        else:
            self._aside.rename(self.run)

    def finished(self) -> set[Key]:
        """
        What is finished now.
        """
        found = set[Key]()
        for path in self.run.glob("step_*/DONE"):
            stat = path.stat()
            found.add((path.parent.name, f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}"))
        return found


class Known:
    """
    What has been promised by the end of the last call.

    Attributes:
        seen: What a look has found that the stream is known to have made.
        done: What must never come again.
        aside: What has failed too often, which must not either.
        attempts: How many have failed.
        doubt: What a call was about to settle that did not return.
        baseline: Whether a first look was made.
    """

    def __init__(self) -> None:
        self.seen = set[Key]()
        self.done = set[Key]()
        self.aside = set[Key]()
        self.attempts = dict[Key, int]()
        self.doubt = set[Key]()
        self.baseline = False

    def settle(self) -> None:
        """
        A call has returned.
        """
        self.done |= self.doubt
        self.doubt = set()


class Snapshot:
    """
    What a process that is killed right now leaves behind.
    """

    def __init__(self, cursor: Path, known: Known) -> None:
        self._cursor = cursor
        self._files = {
            suffix: path.read_bytes()
            for suffix in ("", "-wal", "-lock")
            if (path := Path(f"{cursor}{suffix}")).exists()
        }
        self.known = copy.deepcopy(known)

    def restore(self) -> None:
        """
        Put it in the place of what is there.
        """
        for path in self._cursor.parent.iterdir():
            path.unlink()
        for suffix, content in self._files.items():
            Path(f"{self._cursor}{suffix}").write_bytes(content)


class Loop:
    """
    An event loop that stands still between two calls; it runs in a thread.
    """

    def __init__(self, backend: str) -> None:
        self._calls = SimpleQueue[Callable[[], Awaitable[Any]] | None]()
        self._answers = SimpleQueue[tuple[Any, BaseException | None]]()
        name, options = BACKENDS[backend]()
        run = partial(anyio.run, self._main, backend=name, backend_options=options)
        self._thread = threading.Thread(target=run)
        self._thread.start()

    async def _main(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                self._answers.put((await call(), None))
            except BaseException as error:
                self._answers.put((None, error))

    def call(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self._calls.put(call)
        answer, error = self._answers.get()
        if error is not None:
            raise error
        return answer

    def end(self) -> None:
        self._calls.put(None)
        self._thread.join()


class Machine(RuleBasedStateMachine):
    """
    One trainer, one cursor, and one evaluator after the other.
    """

    backend = ""

    def __init__(self) -> None:
        super().__init__()
        self.base = tempfile.TemporaryDirectory()
        self.disk = Disk(Path(self.base.name))
        self.cursor = Path(self.base.name, "kept", "evals.db")
        self.cursor.parent.mkdir()
        self.known = Known()
        self.maybe = set[Key]()  # a crash came while it was settled
        self.skippable = set[Key]()  # it was there at the first look, or may have been
        self.writes = 0
        self.crash_at: int | None = None
        self.snapshot: Snapshot | None = None

    @initialize(
        done=st.sampled_from(["next", "explicit"]),
        retries=st.integers(0, 2),
        interval=st.sampled_from([0.0, 0.0, INTERVAL]),
        latest_only=st.sampled_from([False, False, True]),
        skip_existing=st.sampled_from([False, False, True]),
        before=st.sets(steps),
    )
    def begin(self, before: set[int], **options: Any) -> None:
        self.options = options
        self.options["min_interval_secs"] = options.pop("interval")
        self.loop = Loop(self.backend)
        for step in before:
            self.save(step)
        self.open()

    # The trainer. Nobody is told of what it does before `touch`.

    @precondition(lambda self: self.disk.is_there)
    @rule(step=steps)
    def save(self, step: int) -> None:
        self.disk.half(step)
        self.disk.finish(step)

    @precondition(lambda self: self.disk.is_there)
    @rule(step=steps)
    def half(self, step: int) -> None:
        self.disk.half(step)

    @precondition(lambda self: self.disk.is_there)
    @rule(step=steps)
    def finish(self, step: int) -> None:
        if not (self.disk.path(step) / "DONE").exists():
            self.disk.finish(step)

    @precondition(lambda self: self.disk.is_there)
    @rule(step=steps)
    def delete(self, step: int) -> None:
        self.disk.delete(step)

    @precondition(lambda self: self.disk.is_there)
    @rule(step=steps)
    def roll_back(self, step: int) -> None:
        for later in STEPS[step - 1 :]:
            self.disk.delete(later)

    @precondition(lambda self: not self.options["retries"])  # What comes back has failed 0 times.
    @rule()
    def move(self) -> None:
        self.disk.move()

    # The evaluator.

    def call(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """
        In the event loop, in which time passes when it is waited for.
        """
        return self.loop.call(lambda: function(*arguments))

    def open(self) -> None:
        self.watcher = ManualWatcher()
        self.stream: CheckpointStream = ckptstream.follow(
            self.disk.run,
            cursor=self.cursor,
            layout=LAYOUT,
            watcher=self.watcher,
            poll_interval=HOUR,
            **self.options,
        )
        self.out = dict[Key, Checkpoint]()
        self.waits = set[Key]()  # It has failed, and comes later.
        self.told = True  # of everything: the next call looks at all
        self.call(self.stream.__aenter__)

    @rule()
    def touch(self) -> None:
        self.watcher.touch()
        self.told = True

    @rule(number=st.integers(1, 5), passes=st.booleans())
    def take(self, number: int, passes: bool) -> None:
        self.call(self._take, number, passes)

    async def _take(self, number: int, passes: bool) -> None:
        """
        So many checkpoints, or less if the stream waits before that.
        """
        if passes:
            await anyio.sleep(LONG)
            self.told = True
            self.waits.clear()
        full, self.told = self.told, False
        for _ in range(number):
            if not await self._next(self.watcher.waiting, full):
                return

    async def _next(self, enough: Callable[[], Awaitable[None]], full: bool) -> bool:
        """
        Ask for one. Returns whether it came before *enough* did. *full*: it looks at everything.
        """
        self._ask()
        got = list[Checkpoint]()

        async def ask() -> None:
            got.append(await anext(self.stream))
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await enough()
            group.cancel_scope.cancel()
        if got:
            self._looked(full)
            self._delivered(got[0])
        elif enough == self.watcher.waiting:
            self._looked(full)
            self._waits(full)
        return bool(got)

    def _ask(self) -> None:
        """
        What is out is done now, unless it has to be said.
        """
        if self.options["done"] == "next":
            self.known.doubt |= set(self.out)
            self.out.clear()
        if self.options["skip_existing"] and not self.known.baseline:
            self.skippable |= self.disk.finished()

    def _looked(self, full: bool) -> None:
        """
        A call has found one, or waits: the cursor knows all that has happened.
        """
        self.known.settle()
        if full:
            self.known.baseline = True
            self.known.seen |= self.disk.finished()

    def _delivered(self, checkpoint: Checkpoint) -> None:
        key = (os.path.basename(checkpoint.path), checkpoint.generation)
        assert key in self.disk.finished()
        assert key not in self.known.done | self.known.aside | set(self.out)
        assert self.known.attempts.get(key, 0) <= self.options["retries"]
        self.known.seen.add(key)
        self.out[key] = checkpoint

    def _waits(self, full: bool) -> None:
        """
        All that may be delivered now was.
        """
        if full and not (self.options["latest_only"] or self.options["min_interval_secs"]):
            settled = self.known.done | self.known.aside | set(self.out) | self.waits
            assert self.disk.finished() - settled <= self.skippable | self.maybe

    @rule(passes=st.integers(0, 4))
    def cancel(self, passes: int) -> None:
        async def enough() -> None:
            for _ in range(passes):
                await anyio.lowlevel.checkpoint()

        full, self.told = self.told, False
        self.call(self._next, enough, full)

    @precondition(lambda self: self.out)
    @rule(fails=st.booleans(), data=st.data())
    def say(self, fails: bool, data: st.DataObject) -> None:
        """
        That one is done, or has failed.
        """
        key = data.draw(st.sampled_from(sorted(self.out)))
        checkpoint = self.out.pop(key)
        self.known.doubt.add(key)
        if not fails:
            self.call(self.stream.done, checkpoint)
            self.known.settle()
            return
        self.fail(key, checkpoint)

    def fail(self, key: Key, checkpoint: Checkpoint) -> None:
        self.out.pop(key, None)
        self.call(self.stream.failed, checkpoint, "it is bad")
        self.known.doubt.discard(key)
        self.known.settle()
        attempts = self.known.attempts[key] = self.known.attempts.get(key, 0) + 1
        if attempts <= self.options["retries"]:
            self.waits.add(key)
        elif key not in self.maybe:
            self.known.aside.add(key)

    # The end of an evaluator.

    @rule(succeeds=st.booleans())
    def restart(self, succeeds: bool) -> None:
        self.leave(succeeds)
        if not succeeds:  # A call that was cancelled at once has settled nothing.
            self.maybe |= self.known.doubt
            self.known.doubt.clear()
        self.known.settle()
        self.open()

    def leave(self, succeeds: bool) -> None:
        if succeeds and self.options["done"] == "next":
            self.known.doubt |= set(self.out)
        error = None if succeeds else ZeroDivisionError()
        self.call(self.stream.__aexit__, error and type(error), error, None)

    @rule(
        at=st.integers(0, 5),
        during=st.sampled_from(["take", "take", "leave", "say"]),
        number=st.integers(1, 3),
        data=st.data(),
    )
    def crash(self, at: int, during: str, number: int, data: st.DataObject) -> None:
        """
        Killed before or after the cursor is written to, for the first time or a later one.
        """
        self.writes, self.crash_at, self.snapshot = 0, at, None
        if during == "take":
            self.watcher.touch()
            self.told = True
            self.call(self._take, number, False)
        elif during == "leave":
            self.leave(succeeds=True)
        elif self.out:
            self.say(data.draw(st.booleans()), data)
        self.crash_at = None
        self.kill(self.snapshot or Snapshot(self.cursor, self.known))
        self.open()

    def kill(self, snapshot: Snapshot) -> None:
        """
        The stream is dropped; what it has written until then stays.
        """
        release(self.stream)
        snapshot.restore()
        self.known = snapshot.known
        self.maybe |= self.known.doubt
        self.known.doubt = set()

    def written(self) -> None:
        """
        Called before each write, and after it.
        """
        if self.writes == self.crash_at:
            self.snapshot = Snapshot(self.cursor, self.known)
        self.writes += 1

    def teardown(self) -> None:
        try:
            if hasattr(self, "stream"):
                self.account()
        finally:
            if hasattr(self, "stream"):
                release(self.stream)
                self.loop.end()
            self.base.cleanup()

    def account(self) -> None:
        """
        An evaluator that nothing happens to takes what is left: each checkpoint is accounted for.
        """
        if not self.disk.is_there:
            self.disk.move()
        for step in STEPS:
            self.finish(step)
        for _ in range(20):
            before = set(self.known.done)
            self.call(self._take, 20, True)
            while self.out:
                key, checkpoint = self.out.popitem()
                self.call(self.stream.done, checkpoint)
                self.known.done.add(key)
            if before == self.known.done:
                break
        self.leave(succeeds=True)
        self.known.settle()
        states = self.states()
        assert {"done"} >= {states.get(key) for key in self.known.done}
        assert {"set aside"} >= {states.get(key) for key in self.known.aside}
        others = self.known.seen - self.known.done - self.known.aside
        gone = {"missed", "skipped"} if self.options["latest_only"] else {"missed"}
        for key in others:
            may_be = gone | ({"skipped"} if key in self.skippable else set())
            may_be |= {"done", "set aside"} if key in self.maybe else set()
            assert states.get(key) in may_be, key
            there = key in self.disk.finished() and not self.options["latest_only"]
            assert not there or key in self.skippable | self.maybe

    def states(self) -> dict[Key, str]:
        connection = sqlite3.connect(self.cursor)
        try:
            rows = connection.execute("SELECT name, generation, state FROM checkpoints")
            return {(name, generation): state for name, generation, state in rows}
        finally:
            connection.close()


def release(stream: CheckpointStream) -> None:
    """
    As the kernel does when a process dies.
    """
    journal = stream.engine._journal
    if journal is not None and journal.cursor is not None:
        journal.cursor.close()
        journal.cursor = None


BOTH = pytest.mark.parametrize("backend", ["virtual-asyncio", "virtual-trio"])


@BOTH
@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(MANY, marks=pytest.mark.thorough)])
def test_any_history(backend: str, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Delivered or reported; finished when delivered; never again once it is done.
    """
    machines = list[Machine]()
    write = CursorFile.write

    def watched(
        self: CursorFile, records: Iterable[tuple[int, Record]], baselines: Iterable[int]
    ) -> None:
        machines[-1].written()
        write(self, records, baselines)
        machines[-1].written()

    monkeypatch.setattr(CursorFile, "write", watched)

    class Play(Machine):
        def __init__(self) -> None:
            super().__init__()
            self.backend = backend
            machines[:] = [self]

    Play.TestCase.settings = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    Play.TestCase().runTest()


# What it has found.


@contextmanager
def history(backend: str, *before: int, **options: Any) -> Iterator[Machine]:
    """
    One that the test tells; in the end all is accounted for.
    """
    defaults = {"done": "explicit", "retries": 0, "interval": 0.0}
    flags = {"latest_only": False, "skip_existing": False}
    machine = Machine()
    machine.backend = backend
    machine.begin(set(before), **{**defaults, **flags, **options})
    try:
        yield machine
    finally:
        machine.teardown()


@BOTH
@pytest.mark.parametrize("before", [[], [1]])
def test_killed_while_it_waits(backend: str, before: list[int]) -> None:
    """
    What the first look found is passed over once, also if nothing was delivered before the end.
    """
    with history(backend, *before, skip_existing=True) as machine:
        machine.take(1, passes=False)
        machine.kill(Snapshot(machine.cursor, machine.known))
        machine.save(2)
        machine.open()
        machine.take(2, passes=False)

        assert [2] == [checkpoint.step for checkpoint in machine.out.values()]


@BOTH
def test_fails_when_it_is_unfinished_again(backend: str) -> None:
    """
    Then it is not delivered again before it is finished.
    """
    with history(backend, 1, retries=2) as machine:
        machine.take(1, passes=False)
        (machine.disk.path(1) / "DONE").unlink()
        machine.touch()
        machine.take(1, passes=False)
        ((key, checkpoint),) = machine.out.items()
        machine.fail(key, checkpoint)
        machine.take(1, passes=True)
        assert {} == machine.out
        machine.finish(1)
        machine.take(1, passes=True)

        assert [1] == [checkpoint.step for checkpoint in machine.out.values()]


@BOTH
def test_fails_when_another_one_is_half_there(backend: str) -> None:
    """
    What cannot be tried again is missed.
    """
    with history(backend, 1, retries=2) as machine:
        machine.take(1, passes=False)
        machine.disk.path(1).rename(machine.disk.run.with_name("the first one"))
        machine.half(1)
        machine.touch()
        machine.take(1, passes=False)
        ((key, checkpoint),) = machine.out.items()
        machine.fail(key, checkpoint)
        machine.finish(1)
        machine.take(1, passes=True)
        (run,) = machine.stream.status().runs

        assert [(1, True)] == [(missed.step, missed.finished) for missed in run.missed]


@BOTH
@pytest.mark.parametrize("killed", [False, True])
def test_fails_again_after_a_restart(backend: str, killed: bool) -> None:
    """
    The attempts before it count.
    """
    with history(backend, 1, retries=1) as machine:
        for _ in range(2):
            machine.take(1, passes=True)
            ((key, checkpoint),) = machine.out.items()
            machine.fail(key, checkpoint)
            if killed:
                machine.kill(Snapshot(machine.cursor, machine.known))
                machine.open()
            else:
                machine.restart(succeeds=True)
        machine.take(1, passes=True)
        (run,) = machine.stream.status().runs

        assert {} == machine.out
        assert [(1, 2, "it is bad")] == [(a.step, a.attempts, a.reason) for a in run.set_aside]


@BOTH
def test_written_again_before_its_turn(backend: str) -> None:
    """
    What was finished and waited is missed, also if it is seen half-written in between.
    """
    with history(backend, 1, 2, interval=INTERVAL) as machine:
        machine.take(1, passes=False)
        machine.half(2)
        machine.touch()
        machine.take(1, passes=False)
        machine.finish(2)
        machine.touch()
        machine.take(1, passes=False)
        (run,) = machine.stream.status().runs

        assert [(2, True)] == [(missed.step, missed.finished) for missed in run.missed]


@BOTH
@pytest.mark.parametrize("passes", range(5))
def test_a_look_that_nobody_waited_for(backend: str, passes: int) -> None:
    """
    What it found long ago puts off no look.
    """
    with history(backend) as machine:
        machine.half(1)
        machine.cancel(passes)
        machine.finish(1)
        machine.take(1, passes=True)

        assert [1] == [checkpoint.step for checkpoint in machine.out.values()]
