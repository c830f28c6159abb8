"""
`follow(pin=True)`: faults, cancellation at every point, other threads, real trainers.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observing import BACKENDS, NATIVE_LOOPS, SECONDS, linux, until
from pinning import Suspended, left, no_links, no_pins_left
from steering import missed, run_status, virtual
from sweeping import LAYOUT
from test_pinned_streams import content, delete, follow, noticed, train

import ckptstream
import ckptstream.sync
from ckptstream import Checkpoint, CheckpointStream
from ckptstream._pins import _claims, _trees
from ckptstream.layouts import Evidence
from ckptstream.testing import ManualWatcher

pytestmark = pytest.mark.anyio


# Faults.


@virtual
async def test_one_of_many_runs_cannot_be_pinned(
    tmp_path: Path,
    watcher: ManualWatcher,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    It waits, with its reason, and is tried again; the others go on.
    """
    link = os.link

    def fail(source: str, target: str) -> None:
        if "/bad/" in source:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), source, None, target)
        link(source, target)

    for name in ("bad", "good"):
        (tmp_path / name).mkdir()
        train(tmp_path / name, 1)
    monkeypatch.setattr(os, "link", fail)
    async with follow(tmp_path / "*", watcher, timeout=60) as stream:
        assert str(tmp_path / "good") == (await anext(stream)).run
        bad, _ = stream.status().runs
        assert bad.waiting_for.startswith("waiting to pin step_1: ")
        monkeypatch.undo()
        assert str(tmp_path / "bad") == (await anext(stream)).run
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    (warning,) = (text for text in warnings if "waiting to pin" in text)
    assert warning.startswith(f"{tmp_path / 'bad'}: ")
    assert warning.endswith(": it is tried again, and not delivered before")


@virtual
async def test_the_disk_is_full_for_a_while(run: Path, watcher: ManualWatcher) -> None:
    """
    It is waited out, with the reason in the status.
    """
    train(run, 1)
    async with follow(run, watcher, timeout=60) as stream:
        with no_links(errno.ENOSPC), anyio.move_on_after(5):
            await anext(stream)
        assert "waiting to pin step_1: No space left on device" == run_status(stream).waiting_for
        assert 1 == (await anext(stream)).step
        assert [] == missed(stream)


@virtual
async def test_the_disk_is_full_until_the_timeout(
    run: Path, watcher: ManualWatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The stream ends; what could not be delivered stays where it is, and is told of.
    """
    train(run, 1)
    with no_links(errno.ENOSPC):
        async with follow(run, watcher, timeout=60) as stream:
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
    (text,) = (
        each.getMessage() for each in caplog.records if "were not delivered" in each.getMessage()
    )
    assert text.endswith("waiting to pin step_1: No space left on device")
    assert (run / "step_1").exists()


@virtual
async def test_it_is_finished_but_never_stands_still(
    run: Path, watcher: ManualWatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Somebody keeps adding files to it: that is said, and does not outlast the timeout.
    """
    link = os.link

    def add(source: str, target: str) -> None:
        link(source, target)
        if source.endswith("weights"):
            Path(source).with_name(f"log-{os.urandom(4).hex()}").touch()

    train(run, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", add)
        async with follow(run, watcher, timeout=60) as stream:
            with anyio.move_on_after(5):
                await anext(stream)
            reason = run_status(stream).waiting_for
            assert reason.startswith("waiting to pin step_1: it keeps changing"), reason
            with anyio.fail_after(100), pytest.raises(StopAsyncIteration):
                await anext(stream)
    assert any("were not delivered" in each.getMessage() for each in caplog.records)


async def test_the_storage_hangs_when_the_block_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Of more runs than there are threads: nobody waits for it to answer.
    """
    answers = threading.Event()

    def remove_late(directory: str, alive: Callable[[], None]) -> None:
        answers.wait()
        remove(directory, alive)

    remove = _trees.remove
    runs = [tmp_path / f"run-{number}" for number in range(6)]
    for run in runs:
        run.mkdir()
        train(run, 1)
    try:
        with anyio.fail_after(SECONDS):
            async with ckptstream.follow(*runs, layout=LAYOUT, pin=True) as stream:
                await until(lambda: all(each.pinned for each in stream.status().runs))
                monkeypatch.setattr(_claims, "remove", remove_late)
    finally:
        answers.set()
    await no_pins_left(runs[0])


class Faulty:
    """
    A layout of a user's own that raises as soon as there is a second step.
    """

    name = "faulty"

    def match(self, name: str) -> tuple[str, int | None] | None:
        return (name, int(name[5:])) if name.startswith("step_") else None

    def missing(self, name: str, evidence: Evidence) -> str | None:
        if name == "step_2":
            raise ZeroDivisionError
        return None

    def generation(self, name: str, evidence: Evidence) -> str | None:
        return evidence.fingerprint(f"{name}/DONE")


@virtual
async def test_what_goes_wrong_meanwhile_is_raised_by_the_next_call(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Once; the stream stays usable.
    """
    train(run, 1)
    async with follow(run, watcher, layout=Faulty(), timeout=60) as stream:
        assert 1 == (await anext(stream)).step
        train(run, 2)
        watcher.touch()
        await anyio.sleep(0.5)
        with pytest.raises(ZeroDivisionError):
            await anext(stream)
        delete(run, 2)
        train(run, 3)
        watcher.touch()
        assert 3 == (await anext(stream)).step


@virtual
async def test_what_goes_wrong_in_one_run_keeps_no_other_from_being_pinned(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    Nor does it keep later ones, in the block of the same stream.
    """
    bad, good = tmp_path / "bad", tmp_path / "good"
    for directory in (bad, good):
        directory.mkdir()
    train(good, 1)
    options: dict[str, Any] = {"layout": Faulty(), "pin": True, "watcher": watcher, "timeout": 60}
    async with ckptstream.follow(bad, good, **options) as stream:
        await anext(stream)
        train(bad, 2)
        watcher.touch()
        await anyio.sleep(1)
        for step in (3, 4):
            train(good, step)
            watcher.touch()
            await anyio.sleep(5)
            delete(good, step)
            watcher.touch()
            await anyio.sleep(5)
        delete(bad, 2)
        watcher.touch()
        await anyio.sleep(5)
        with pytest.raises(ZeroDivisionError):
            await anext(stream)
        assert ["of 3", "of 4"] == [content(await anext(stream)) for _ in range(2)]


@virtual
async def test_two_tasks_at_once(run: Path, watcher: ManualWatcher) -> None:
    """
    Refused as always; the one that waits is not disturbed.
    """
    found = list[int | None]()

    async def take() -> None:
        found.append((await anext(stream)).step)

    async with follow(run, watcher, timeout=60) as stream:
        async with anyio.create_task_group() as group:
            group.start_soon(take)
            await anyio.sleep(1)
            with pytest.raises(anyio.BusyResourceError):
                await anext(stream)
            train(run, 1)
            watcher.touch()

        assert [1] == found


@virtual
async def test_the_block_is_left_while_another_task_waits(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    The stream has ended for it, as after `aclose`.
    """
    ended = list[type[BaseException]]()

    async def wait() -> None:
        try:
            await anext(stream)
        except BaseException as error:
            ended.append(type(error))

    async with anyio.create_task_group() as group, follow(run, watcher) as stream:
        group.start_soon(wait)
        await anyio.sleep(1)

    assert [StopAsyncIteration] == ended


# Cancellation.


class Attempt:
    """
    A block in which one of the calls is cancelled at its n-th suspension.

    Attributes:
        reached: Whether there were so many suspensions.
        steps: What was delivered.
    """

    def __init__(self, run: Path, where: str, number: int) -> None:
        self._stream = ckptstream.follow(run, layout=LAYOUT, pin=True)
        self._where = where
        self._number = number
        self.reached = False
        self.steps = list[int | None]()

    def _at(self, where: str, awaitable: Any, cancel: Callable[[], object]) -> Suspended[Any]:
        number = self._number if where == self._where else 0
        call = Suspended(awaitable, number, cancel)
        self._calls.append(call)
        return call

    async def run(self, cancel: Callable[[], object]) -> None:
        self._calls = list[Suspended[Any]]()
        try:
            await self._at("entering", self._stream.__aenter__(), cancel)
            try:
                for _ in range(2):
                    call = self._at("asking", self._stream.__anext__(), cancel)
                    self.steps.append((await call).step)
            finally:
                await self._at("leaving", self._stream.__aexit__(None, None, None), cancel)
        finally:
            self.reached = any(call.reached for call in self._calls)


WHERE = pytest.mark.parametrize("where", ["entering", "asking", "leaving"])


@WHERE
async def test_cancelled_by_a_scope_at_the_nth_suspension(run: Path, where: str) -> None:
    """
    For all n: no pin is left, and the next stream has all of it.
    """
    for step in (1, 2):
        train(run, step)
    number, reached = 1, True
    while reached:
        attempt = Attempt(run, where, number)
        with anyio.CancelScope() as scope:
            await attempt.run(scope.cancel)
        await no_pins_left(run)
        reached = attempt.reached
        assert reached or [1, 2] == attempt.steps
        number += 1
    assert number > (1 if where == "entering" else 2)


@NATIVE_LOOPS
@WHERE
async def test_its_task_is_cancelled_at_the_nth_suspension(run: Path, where: str) -> None:
    """
    The same, by `asyncio.Task.cancel`.
    """
    for step in (1, 2):
        train(run, step)
    number, reached = 1, True
    while reached:
        attempt = Attempt(run, where, number)

        async def attempted(attempt: Attempt = attempt) -> None:
            task = asyncio.current_task()
            assert task is not None
            await attempt.run(task.cancel)

        task = asyncio.create_task(attempted())
        await asyncio.wait([task])
        await no_pins_left(run)
        reached = attempt.reached
        assert task.cancelled() or not reached or where == "leaving"
        number += 1


async def test_a_cancelled_call_loses_nothing(run: Path) -> None:
    """
    Again and again, while the task that pins takes over in between.
    """
    train(run, 1)
    train(run, 2)
    found = list[int | None]()
    async with ckptstream.follow(run, layout=LAYOUT, pin=True) as stream:
        with anyio.fail_after(SECONDS):
            while len(found) < 2:
                with anyio.move_on_after(0.0005):
                    found.append((await anext(stream)).step)
                await anyio.lowlevel.checkpoint()

    assert [1, 2] == found


# Restarts.


@virtual
async def test_what_is_left_at_the_end_of_the_block_is_missed(
    run: Path, tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    Once: the cursor knows, and the next stream does not say it again.
    """
    options: dict[str, Any] = {"cursor": tmp_path / "evals.db", "timeout": 60}
    for step in (1, 2, 3):
        train(run, step)
    async with follow(run, watcher, **options) as stream:
        await anext(stream)
        await watcher.waiting()
        delete(run, 1, 2)
        await noticed(watcher)
    assert [(2, True)] == missed(stream)

    async with follow(run, watcher, **options) as stream:
        assert [3] == [checkpoint.step async for checkpoint in stream]
        assert [] == missed(stream)


KILLED = """
import os, signal, sys
import anyio, ckptstream
async def main(run, cursor):
    async with ckptstream.follow(run, layout="step_{step}/DONE", pin=True, cursor=cursor) as stream:
        checkpoint = await anext(stream)
        os.kill(os.getpid(), signal.SIGKILL)
anyio.run(main, *sys.argv[1:], backend="BACKEND")
"""


@linux
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_what_a_killed_process_leaves_is_removed_by_the_next_start(
    run: Path, tmp_path: Path, watcher: ManualWatcher, backend: str
) -> None:
    """
    Also if that one finds nothing to pin; what was not done comes again.
    """
    train(run, 1)
    program, cursor = KILLED.replace("BACKEND", backend), tmp_path / "evals.db"
    done = await anyio.run_process(
        [sys.executable, "-c", program, str(run), str(cursor)], check=False
    )
    assert -signal.SIGKILL == done.returncode
    assert left(run)

    (run / "step_1").rename(run / "hidden")
    async with follow(run, watcher):
        await no_pins_left(run)
    (run / "hidden").rename(run / "step_1")
    async with follow(run, watcher, cursor=cursor) as stream:
        assert 1 == (await anext(stream)).step


# Whatever happens in between.

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["save", "delete", "rewrite", "take", "tell", "fail"]),
        st.integers(min_value=0, max_value=2),  # No look is told of more that are written again.
    ),
    max_size=25,
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=60)
@given(operations=OPERATIONS)
def test_each_generation_that_was_seen_comes_once_and_whole(
    backend: str, operations: list[tuple[str, int]]
) -> None:
    """
    Saved, deleted, rewritten and failed in any order: what a look has seen is not missed.
    """
    with TemporaryDirectory() as directory:
        trial = Trial(Path(directory, "run"))
        anyio.run(trial.all, operations, backend=backend, backend_options=BACKENDS[backend][1])
        assert sorted(trial.seen) == sorted(trial.done)
        assert [] == left(trial.run)


class Trial:
    """
    A trainer and an evaluator, who take turns as they are told.

    Attributes:
        seen: What was written and then looked at.
        done: What was delivered, without what has failed.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.run.mkdir()
        self.watcher = ManualWatcher()
        self.written = 0
        self.fresh = dict[int, str]()
        self.seen = list[str]()
        self.done = list[str]()
        self.failed = set[str]()

    async def all(self, operations: list[tuple[str, int]]) -> None:
        options: dict[str, Any] = {"pin": 1000, "retries": 1, "watcher": self.watcher}
        async with ckptstream.follow(self.run, layout=LAYOUT, **options) as stream:
            for operation, step in operations:
                await self.do(operation, step, stream)
            await self.tell()
            while self.left:
                await self.take(stream, fails=False)
            self.done += self.failed  # They come again after 10 s: not waited for.

    @property
    def left(self) -> set[str]:
        """
        What has still to come.
        """
        return set(self.seen) - set(self.done) - self.failed

    async def do(self, operation: str, step: int, stream: CheckpointStream) -> None:
        there = (self.run / f"step_{step}").exists()
        if operation == "tell":
            await self.tell()
        elif operation in {"take", "fail"} and self.left:
            await self.take(stream, fails=operation == "fail")
        if there and operation in {"delete", "rewrite"}:
            delete(self.run, step)
            self.fresh.pop(step, None)
            there = False
        if not there and operation in {"save", "rewrite"}:
            self.written += 1
            self.fresh[step] = f"generation {self.written}"
            train(self.run, step, self.fresh[step])

    async def tell(self) -> None:
        await noticed(self.watcher)
        self.seen += self.fresh.values()
        self.fresh.clear()

    async def take(self, stream: CheckpointStream, *, fails: bool) -> None:
        # Each call looks again at what it delivers; so do we, to know what it may have seen.
        await self.tell()
        with anyio.fail_after(SECONDS):
            checkpoint = await anext(stream)
        if fails:
            self.failed.add(content(checkpoint))
            await stream.failed(checkpoint, "no")
        else:
            self.done.append(content(checkpoint))


# Real ones.

TRAINER = """
import os, shutil, sys, time
run, count = sys.argv[1], int(sys.argv[2])
for step in range(count):
    hidden = f"{run}/.being-written-{step}"
    os.mkdir(hidden)
    with open(f"{hidden}/weights", "w") as file:
        file.write(f"of {step}")
    with open(f"{hidden}/DONE", "w"):
        pass
    os.rename(hidden, f"{run}/step_{step}")
    time.sleep(0.1)
    if step:
        shutil.rmtree(f"{run}/step_{step - 1}")
"""


@pytest.fixture
def trainer(run: Path) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """
    Starts a process that keeps only its newest checkpoint.
    """
    started = list[subprocess.Popen[bytes]]()

    def start(count: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", TRAINER, str(run), str(count)]
        started.append(subprocess.Popen(command))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


@linux
async def test_a_trainer_that_keeps_one_and_an_evaluator_that_sleeps(
    run: Path, trainer: Callable[[int], subprocess.Popen[bytes]]
) -> None:
    """
    The evaluator comes back when the trainer has ended: all are there, but for the last one's.
    """
    count = 6
    found = list[str]()
    async with ckptstream.follow(run, layout=LAYOUT, pin=True, until_step=count - 1) as stream:
        process = trainer(count)
        async for checkpoint in stream:
            if checkpoint.step == 0:
                await anyio.to_thread.run_sync(process.wait)
            found.append(content(checkpoint))

    assert [f"of {step}" for step in range(count)] == found
    assert [] == missed(stream)
    assert ["run"] == os.listdir(run.parent)


@linux
async def test_for_each(run: Path, trainer: Callable[[int], subprocess.Popen[bytes]]) -> None:
    """
    What is being evaluated stays pinned, as many as there are jobs.
    """
    count, found = 6, list[str]()
    process = trainer(count)

    async def evaluate(checkpoint: Checkpoint) -> None:
        await anyio.to_thread.run_sync(process.wait)
        found.append(content(checkpoint))

    options: dict[str, Any] = {"pin": 1, "until_step": count - 1}
    async with ckptstream.follow(run, layout=LAYOUT, **options) as stream:
        await stream.for_each(evaluate, jobs=count)

    assert sorted(f"of {step}" for step in range(count)) == sorted(found)
    assert [] == left(run)


def test_in_blocking_code(run: Path) -> None:
    """
    What waits when a call returns stays pinned; between two calls nothing is looked at.
    """
    for step in (1, 2):
        train(run, step)
    with ckptstream.sync.follow(run, layout=LAYOUT, pin=True, timeout=0.5) as stream:
        first = next(stream)
        shutil.rmtree(run / "step_1")
        assert "of 1" == content(first)
        (run / "step_3").mkdir()
        found = [content(checkpoint) for checkpoint in stream]

    assert ["of 2"] == found
    assert [] == left(run)
