"""
A server that is down: how often it is asked meanwhile, as it counts itself, in virtual time.
"""

from __future__ import annotations

import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from typing import TypeVar

import anyio
import pytest
from buckets import LAYOUT, Proxy, Server, finish
from steering import drained, run_status, virtual

from ckptstream import CheckpointStream, follow
from ckptstream._threads import Job
from ckptstream.testing import ManualWatcher

pytest.importorskip("obstore")
pytestmark = [pytest.mark.anyio, virtual]

T = TypeVar("T")

OUTAGE = 1500.0  # seconds
SHORTEST, LONGEST = 1.0, 600.0  # seconds between two attempts
RUNS = 12


class Counting(ManualWatcher):
    """
    Polls, and notes what each look asked of a server.

    Attributes:
        count: How many requests the server has seen, or connections.
        asked: When a look was made, and how many there were for it.
    """

    def __init__(self) -> None:
        super().__init__(events=False)
        self.count: Callable[[], int] = lambda: self.looks
        self.asked = list[tuple[float, int]]()

    def submit(self, job: Job[T], done: Callable[[], None], *, first: bool = False) -> None:
        before = self.count()
        super().submit(job, done, first=first)
        self.asked.append((anyio.current_time(), self.count() - before))


@contextmanager
def overloaded(proxy: Proxy, watcher: Counting) -> Iterator[None]:
    """
    The server answers that it has too much to do.
    """
    proxy.status, watcher.count = 503, lambda: len(proxy.asked)
    yield
    proxy.status = None


@contextmanager
def hanging_up(proxy: Proxy, watcher: Counting) -> Iterator[None]:
    """
    Each connection is closed before a word was said.
    """
    calls = list[object]()

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            calls.append(self.client_address)

    class Listening(socketserver.TCPServer):
        allow_reuse_address = True

    with closed(proxy, watcher), Listening(("127.0.0.1", proxy.port), HangUp) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        watcher.count = lambda: len(calls)
        yield
        server.shutdown()
        thread.join()


@contextmanager
def closed(proxy: Proxy, watcher: Counting) -> Iterator[None]:
    """
    Nobody listens; only the looks can be counted.
    """
    proxy.close()
    watcher.count = lambda: watcher.looks
    yield
    proxy.listen()


async def during(outage: float, stream: CheckpointStream) -> None:
    """
    Somebody waits for the next checkpoint, and is cancelled in the end.
    """
    with anyio.move_on_after(outage):
        await anext(stream)
        pytest.fail("there is one")


@pytest.mark.parametrize("fault", [overloaded, hanging_up, closed])
async def test_it_is_asked_ever_less(
    server: Server, bucket: str, proxy: Proxy, fault: Callable[..., AbstractContextManager[None]]
) -> None:
    """
    After one second, two, four, up to the longest interval, each up to half as early; and when it
    is up again all that it has comes by itself, in order.
    """
    finish(server.store(bucket), 1)
    watcher = Counting()
    stream = follow(f"s3://{bucket}", layout=LAYOUT, poll_interval=LONGEST, watcher=watcher)
    await drained(stream, watcher)
    watcher.asked.clear()
    with fault(proxy, watcher):
        finish(server.store(bucket), 2, 3)
        await during(OUTAGE, stream)
        asked = watcher.asked.copy()
        failed = run_status(stream).waiting_for
    healed = anyio.current_time()
    with anyio.fail_after(2 * LONGEST):
        found = [(await anext(stream)).step, (await anext(stream)).step]

    pauses = [after - before for (before, _), (after, _) in pairwise(asked)]
    longest = [min(SHORTEST * 2**number, LONGEST) for number in range(len(pauses))]
    parts = [pause / most for pause, most in zip(pauses, longest, strict=True)]
    assert "cannot be read" in failed
    assert {1, 2} >= {requests for _, requests in asked}  # The client itself asks once more.
    assert 10 <= len(asked) <= 14
    assert [] == [part for part in parts if not 0.4 <= part <= 1.0]
    assert len({round(part, 2) for part in parts}) > len(parts) / 3
    assert [2, 3] == found
    assert anyio.current_time() - healed <= LONGEST
    assert 0 == run_status(stream).missed_count


async def test_a_server_that_is_up_again_is_not_overrun(
    server: Server, bucket: str, proxy: Proxy
) -> None:
    """
    Of many runs that have failed together, few ask in the same second.
    """
    names = [f"run-{number}" for number in range(RUNS)]
    for name in names:
        finish(server.store(bucket), 1, below=f"{name}/")
    behind = Server(proxy.endpoint)
    stores = [behind.store(bucket, prefix=name, retry_config={"max_retries": 0}) for name in names]
    watcher = Counting()
    stream = follow(*stores, layout=LAYOUT, poll_interval=LONGEST, watcher=watcher)
    assert RUNS == len(await drained(stream, watcher))
    with overloaded(proxy, watcher):
        stream.wake()  # They ask together.
        watcher.asked.clear()
        await during(OUTAGE, stream)
        asked = watcher.asked[RUNS:]
        for name in names:
            finish(server.store(bucket), 2, below=f"{name}/")
    with anyio.fail_after(2 * LONGEST):
        found = [await anext(stream) for _ in names]

    seconds = Counter(int(moment) for moment, _ in asked[-5 * RUNS :])
    assert RUNS * 8 <= len(asked) <= RUNS * 13
    assert max(seconds.values()) <= RUNS / 2
    assert {ckpt.run for ckpt in found} == {run.run for run in stream.status().runs}
    assert [2] * RUNS == [ckpt.step for ckpt in found]
