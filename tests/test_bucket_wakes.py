"""
A bucket tells of each object of an upload: how many requests that takes, and that none is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from buckets import LAYOUT, finish, put
from steering import HeldWatcher, drained, rest, run_status, steps, virtual

from ckptstream import CheckpointStream, follow
from ckptstream._stores import _bucket
from ckptstream.testing import ManualWatcher, save

pytest.importorskip("obstore")
pytestmark = [pytest.mark.anyio, virtual]

PAUSE = 1.0  # seconds that an event may wait for others
OBJECTS = 300


@pytest.fixture
def memory() -> Any:
    """
    An object store in this process.
    """
    from obstore.store import MemoryStore

    return MemoryStore()


@pytest.fixture
def polled() -> ManualWatcher:
    """
    What only `wake()` and the time tell.
    """
    return ManualWatcher(events=False)


def open_stream(store: Any, watcher: ManualWatcher, **options: Any) -> CheckpointStream:
    """
    It asks by itself once an hour.
    """
    return follow(store, **{"layout": LAYOUT, "poll_interval": 3600, **options}, watcher=watcher)


def run_of(stream: CheckpointStream) -> str:
    return run_status(stream).run


def objects(step: int, number: int) -> Iterator[tuple[str, bytes]]:
    """
    A checkpoint of so many parts, its marker last.
    """
    for part in range(number):
        yield f"step_{step}/part-{part}", b"weights"
    yield f"step_{step}/DONE", b"x"


async def upload(store: Any, stream: CheckpointStream, step: int, pauses: Sequence[float]) -> float:
    """
    An object after each pause, and an event for each. Returns when the last one came.
    """
    for pause, (path, content) in zip(pauses, objects(step, len(pauses) - 1), strict=True):
        await anyio.sleep(pause)
        put(store, path, content)
        stream.wake(f"{run_of(stream)}/{path}")
    return anyio.current_time()


async def latency(
    store: Any, stream: CheckpointStream, step: int, pauses: Sequence[float]
) -> float:
    """
    Seconds from the last event of an upload to the checkpoint.
    """
    told, heard = 0.0, 0.0

    async def consume() -> None:
        nonlocal heard
        assert step == (await anext(stream)).step
        heard = anyio.current_time()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        told = await upload(store, stream, step, pauses)
    return heard - told


# Each upload lasts so long, in seconds.
@pytest.mark.parametrize(("lasts", "most"), [(0.3, 8), (3.0, 16), (30.0, 70)])
async def test_an_event_for_each_object_of_an_upload(
    memory: Any, polled: ManualWatcher, lasts: float, most: int
) -> None:
    """
    One look serves many of them, and a quick upload waits less than a slow one.
    """
    finish(memory, 1)
    stream = open_stream(memory, polled)
    await drained(stream, polled)
    before = run_status(stream).requests_last_hour or 0
    late = await latency(memory, stream, 2, [lasts / OBJECTS] * (OBJECTS + 1))

    assert (run_status(stream).requests_last_hour or 0) - before <= most
    assert 0 <= late <= min(lasts, PAUSE) + 0.05


async def test_the_first_event_is_looked_at_at_once(memory: Any, polled: ManualWatcher) -> None:
    """
    Right after a look that nobody had asked for, and so is the first one of each upload after it.
    """
    finish(memory, 1)
    stream = open_stream(memory, polled)
    await drained(stream, polled)
    delays = list[float]()
    for step in (2, 3, 4):
        finish(memory, step)
        delays.append(await latency(memory, stream, step, [0.0]))
        await anyio.sleep(5)

    assert [0.0, 0.0, 0.0] == delays


@pytest.mark.parametrize("seed", range(5))
async def test_the_last_event_is_never_lost(memory: Any, polled: ManualWatcher, seed: int) -> None:
    """
    Whenever it comes: the look that follows begins after it, and within the pause.
    """
    random = Random(seed)
    finish(memory, 1)
    stream = open_stream(memory, polled)
    await drained(stream, polled)
    delays = list[float]()
    for step in range(2, 12):
        shortest = random.choice([0.001, 0.03, 0.3, 2.0])
        pauses = [random.uniform(0, shortest) for _ in range(random.randint(1, 20))]
        delays.append(await latency(memory, stream, step, pauses))

    assert max(delays) <= PAUSE + 0.01


async def test_an_event_while_a_look_is_in_flight(memory: Any) -> None:
    """
    That look does not know of it; the next one does, a moment after it.
    """
    finish(memory, 1)
    held = HeldWatcher(events=False)
    held.holds = False
    stream = open_stream(memory, held)
    await drained(stream, held)
    held.holds = True
    path = f"{run_of(stream)}/step_2"
    put(memory, "step_2/model.bin")
    stream.wake(f"{path}/model.bin")
    assert [] == await steps(stream, held)
    put(memory, "step_2/DONE")
    stream.wake(f"{path}/DONE")
    looks = held.looks
    held.holds = False
    held.answer()

    with anyio.fail_after(PAUSE):
        assert 2 == (await anext(stream)).step
    assert 1 <= held.looks - looks <= 2  # and a verification


async def test_all_runs_are_told(memory: Any, polled: ManualWatcher) -> None:
    """
    However often, by whoever does not say where.
    """
    finish(memory, 1)
    stream = open_stream(memory, polled)
    await drained(stream, polled)
    before = polled.looks
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rest, stream)
        for _ in range(100):
            stream.wake()
            await anyio.sleep(0.01)
        await anyio.sleep(PAUSE)
        tasks.cancel_scope.cancel()

    assert 2 <= polled.looks - before <= 7


async def test_what_lies_in_no_run(
    memory: Any, polled: ManualWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The root of a pattern is asked about as seldom, and a run that comes is found in time.
    """
    monkeypatch.setattr(_bucket, "connect", lambda url, options: memory)
    finish(memory, 1, below="a/ckpts/")
    stream = open_stream("s3://bucket/*/ckpts", polled)
    await drained(stream, polled)
    before = polled.looks
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rest, stream)
        for number in range(100):
            put(memory, f"b/logs/{number}")
            stream.wake(f"s3://bucket/b/logs/{number}")
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    looks = polled.looks - before
    finish(memory, 1, below="b/ckpts/")
    stream.wake("s3://bucket/b/ckpts/step_1/DONE")

    with anyio.fail_after(PAUSE):
        assert "s3://bucket/b/ckpts" == (await anext(stream)).run
    assert 2 <= looks <= 6


async def test_the_last_look_waits_for_nobody(memory: Any, polled: ManualWatcher) -> None:
    """
    Though there was an event just before it.
    """
    stream = open_stream(memory, polled, timeout=10)
    began = anyio.current_time()

    async def begin_to_upload() -> None:
        await anyio.sleep(9.9)
        for part in range(10):
            put(memory, f"step_1/part-{part}")
            stream.wake(f"{run_of(stream)}/step_1/part-{part}")
            await anyio.sleep(0.009)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(begin_to_upload)
        found = await rest(stream)

    assert [] == found
    assert anyio.current_time() - began == pytest.approx(10.0, abs=0.001)


async def test_events_of_a_directory_cost_nothing(tmp_path: Path) -> None:
    """
    Each is looked at at once.
    """
    watcher = ManualWatcher()
    save(tmp_path, 1)
    stream = follow(tmp_path, watcher=watcher)
    await drained(stream, watcher)
    before, now = watcher.looks, anyio.current_time()
    for _ in range(5):
        stream.wake(tmp_path / "checkpoint-2")
        await drained(stream, watcher)

    assert (5, now) == (watcher.looks - before, anyio.current_time())
