"""
Storage that does not answer: it is named, and it delays nobody else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from observing import SECONDS, Blocked, linux, look_threads, mark_done, until

from ckptstream import CheckpointStream, follow

pytestmark = [linux, pytest.mark.anyio]

LAYOUT = "step_{step}/DONE"


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Blocked]:
    blocked = Blocked(monkeypatch)
    yield blocked
    blocked.release()


def stream_of(run: Path) -> CheckpointStream:
    mark_done(run, 1)
    return follow(run, layout=LAYOUT)


async def next_step(stream: CheckpointStream) -> int | None:
    with anyio.fail_after(SECONDS):
        return (await anext(stream)).step


async def test_cancelling_does_not_wait_for_the_storage(run: Path, blocked: Blocked) -> None:
    """
    The call returns while the listing hangs.
    """
    blocked.hang(run)
    stream = stream_of(run)

    for _ in range(50):
        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as group:
                group.start_soon(next_step, stream)
                await until(lambda: blocked.asked)
                group.cancel_scope.cancel()

    # Fifty callers, one look.
    assert [str(run)] == blocked.asked


async def test_a_late_result_serves_the_next_call(run: Path, blocked: Blocked) -> None:
    """
    The look goes on without its caller, and is not made twice.
    """
    blocked.hang(run)
    stream = stream_of(run)
    async with anyio.create_task_group() as group:
        group.start_soon(next_step, stream)
        await until(lambda: blocked.asked)
        group.cancel_scope.cancel()

    blocked.release()
    step = await next_step(stream)

    assert (1, [str(run)]) == (step, blocked.asked)


async def test_status_names_the_storage_that_hangs(
    tmp_path: Path, blocked: Blocked, caplog: pytest.LogCaptureFixture
) -> None:
    """
    After a second, in words, with a warning; the other stream goes on all the while.
    """
    caplog.set_level(logging.WARNING, "ckptstream")
    hung, healthy = stream_of(tmp_path / "hung"), stream_of(tmp_path / "healthy")
    blocked.hang(tmp_path / "hung")

    async with anyio.create_task_group() as group:
        group.start_soon(next_step, hung)
        await until(lambda: blocked.asked)
        steps, before = [await next_step(healthy)], hung.status().runs[0]
        while hung.status().runs[0].unanswered is None:
            mark_done(tmp_path / "healthy", len(steps) + 1)
            steps.append(await next_step(healthy))
        await until(lambda: caplog.records)
        after = hung.status().runs[0]
        group.cancel_scope.cancel()

    assert (None, "waiting for the first look") == (before.unanswered, before.waiting_for)
    assert "the storage does not answer" == after.waiting_for
    assert after.unanswered is not None
    assert 1.0 <= after.unanswered < SECONDS
    assert list(range(1, len(steps) + 1)) == steps
    expected = f"{tmp_path}/hung: the storage does not answer; other runs go on: check the mount"
    assert [expected] == [record.getMessage() for record in caplog.records]


async def test_it_is_followed_again_when_it_answers(run: Path, blocked: Blocked) -> None:
    """
    Hung or not: the stream was never at an end.
    """
    blocked.hang(run)
    stream = stream_of(run)
    got = list[int | None]()

    async def read() -> None:
        got.append(await next_step(stream))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await until(lambda: stream.status().runs[0].unanswered)
        blocked.release()

    status = stream.status().runs[0]
    assert ([1], None, "waiting for the next checkpoint") == (
        got,
        status.unanswered,
        status.waiting_for,
    )


async def test_twenty_hung_runs_and_a_healthy_one(
    tmp_path: Path, blocked: Blocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Four threads hang on their mount, two work: the healthy run gets all, the hung are named.
    """

    def mount(path: str) -> tuple[str, str]:
        return ("/hung" if "hung-" in path else "/", "ext4")

    monkeypatch.setattr("ckptstream._stores._mounts.mount", mount)
    hung = [stream_of(tmp_path / f"hung-{number}") for number in range(20)]
    healthy = stream_of(tmp_path / "healthy")
    blocked.hang(*(tmp_path / f"hung-{number}" for number in range(20)))
    threads = list[int]()

    async with anyio.create_task_group() as group:
        for stream in hung:
            group.start_soon(next_step, stream)
        await until(lambda: all(s.status().runs[0].unanswered is not None for s in hung))
        steps = [await next_step(healthy)]
        for step in range(2, 21):
            mark_done(tmp_path / "healthy", step)
            steps.append(await next_step(healthy))
            threads.append(len(look_threads()))
        asked = len(blocked.asked)
        group.cancel_scope.cancel()

    assert (list(range(1, 21)), 4) == (steps, asked)
    assert max(threads) <= 6
    # The mount answers: what was held back is looked at, too.
    blocked.release()
    assert [1] * 20 == [await next_step(stream) for stream in hung]


async def test_a_timeout_does_not_wait_for_hung_storage(run: Path, blocked: Blocked) -> None:
    """
    The last look is no reason never to end.
    """
    blocked.hang(run)
    mark_done(run, 1)
    stream = follow(run, layout=LAYOUT, timeout=0)

    with anyio.fail_after(SECONDS), pytest.raises(StopAsyncIteration):
        await anext(stream)

    assert [str(run)] == blocked.asked
    assert stream.status().ended is not None
