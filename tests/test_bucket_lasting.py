"""
Runs in object stores as users follow them: asked once a minute, by servers that are slow or fail
once, and in one-shot calls.
"""

from __future__ import annotations

import errno
import itertools
import random
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from buckets import SECRET, Server, put
from observing import SECONDS, until

import ckptstream.sync
from ckptstream import Checkpoint, CheckpointStream, follow
from ckptstream._scan import Look, Trouble
from ckptstream._stores import LocalLocation, _bucket, given_store
from ckptstream._stores._client import storage_error
from ckptstream._stream._timers import Timers
from ckptstream._threads import _job

pytest.importorskip("obstore")
anyio_tests = pytest.mark.anyio

LAYOUT = "step_{step}/DONE"
_numbers = itertools.count()


@pytest.fixture
def memory() -> Any:
    """
    An object store in this process.
    """
    from obstore.store import MemoryStore

    return MemoryStore()


@pytest.fixture(autouse=True)
def settles_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    After a moment, not after half a minute.
    """
    monkeypatch.setattr(_bucket, "SETTLE", 0.3)


class Faulty:
    """
    A store before whose answers something happens.
    """

    def __init__(self, store: Any, before: Callable[[], None]) -> None:
        self._store = store
        self._before = before

    def _ask(self, name: str, *arguments: Any, **options: Any) -> Any:
        self._before()
        return getattr(self._store, name)(*arguments, **options)

    def list_with_delimiter(self, prefix: str | None = None) -> Any:
        return self._ask("list_with_delimiter", prefix)

    def head(self, path: str) -> Any:
        return self._ask("head", path)

    def get(self, path: str, *, options: Any = None) -> Any:
        return self._ask("get", path, options=options)

    def list(
        self, prefix: str | None = None, *, offset: str | None = None, chunk_size: int = 50
    ) -> Any:
        return self._ask("list", prefix, offset=offset, chunk_size=chunk_size)


def finish(store: Any, *steps: int) -> None:
    for step in steps:
        put(store, f"step_{step}/model.bin", b"weights")
        put(store, f"step_{step}/DONE")


async def take(stream: CheckpointStream, count: int) -> list[Checkpoint]:
    with anyio.fail_after(SECONDS):
        return [await anext(stream) for _ in range(count)]


# The last look.


@anyio_tests
async def test_a_last_look_at_a_slow_server_is_waited_for(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It hangs, as far as others are concerned; but its client gives up some day.
    """
    monkeypatch.setattr(_job, "REMOTE_HUNG_AFTER", 0.02)
    finish(memory, 1)
    pauses = iter([1.5])  # Whether it hangs is asked after a second.
    slow = Faulty(memory, lambda: time.sleep(next(pauses, 0)))

    assert [1] == [ckpt.step async for ckpt in follow(slow, layout=LAYOUT, timeout=0)]


@anyio_tests
async def test_a_last_look_survives_a_fault(memory: Any) -> None:
    """
    One request of many that fails is made again.
    """
    from obstore.exceptions import GenericError

    finish(memory, 1)
    faults = iter([True])

    def fail_once() -> None:
        if next(faults, False):
            raise GenericError("error sending request")

    found = [c.step async for c in follow(Faulty(memory, fail_once), layout=LAYOUT, timeout=0)]

    assert [1] == found


def test_a_last_look_is_given_up_in_time(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    After half a minute of faults, however long the pauses between them have become.
    """
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.95 * high)
    timers, failed = Timers(given_store(memory), 60.0), Look(trouble=Trouble.UNREADABLE)
    timers.last_from = now = 100.0
    while not timers.is_last(failed, now, now, now):
        timers.set(failed, now, thorough=True, listed=False)
        now = timers.poll_at

    assert 130.0 == now


@anyio_tests
async def test_several_that_settle_are_all_there_at_the_end(memory: Any) -> None:
    """
    One a moment later than the other, and no look between.
    """
    for step in range(4):
        put(memory, f"ckpt_{step}.bin", b"weights")
    slow = Faulty(memory, lambda: time.sleep(0.03))

    found = [c.step async for c in follow(slow, layout="ckpt_{step}.bin", timeout=0)]

    assert [0, 1, 2, 3] == found


# What a minute between two looks must not hide.


@anyio_tests
async def test_wake_looks_at_all_whatever_a_pointer_says(memory: Any) -> None:
    """
    An object of that name may be anybody's.
    """
    put(memory, "latest", b"whatever")
    for file in ("__0_0.distcp", ".metadata"):
        put(memory, f"step_1/{file}")
    stream = follow(memory, poll_interval=3600)
    await take(stream, 1)
    for file in ("__0_0.distcp", ".metadata"):
        put(memory, f"step_2/{file}")
    stream.wake()

    assert [2] == [ckpt.step for ckpt in await take(stream, 1)]


@anyio_tests
async def test_wake_by_the_pointer_finds_what_it_names(memory: Any) -> None:
    """
    Nobody need tell of the checkpoint itself.
    """
    for file in ("__0_0.distcp", ".metadata"):
        put(memory, f"step_1/{file}")
    put(memory, "latest", b"step_1")
    stream = follow(memory, poll_interval=3600)
    [first] = await take(stream, 1)
    for file in ("__0_0.distcp", ".metadata"):
        put(memory, f"step_2/{file}")
    put(memory, "latest", b"step_2")
    stream.wake(f"{first.run}/latest")

    assert [2] == [ckpt.step for ckpt in await take(stream, 1)]


@anyio_tests
async def test_deleted_and_uploaded_again_it_is_a_new_one(memory: Any) -> None:
    """
    Though nobody looked while it was gone, and none of its files has its old name.
    """
    put(memory, "step_1/old.bin", b"weights")
    stream = follow(memory, layout="step_{step}", poll_interval=0.1)
    [first] = await take(stream, 1)
    memory.delete("step_1/old.bin")
    await anyio.sleep(1.1)  # Times of objects are in whole seconds.
    put(memory, "step_1/new.bin", b"others")

    [second] = await take(stream, 1)

    assert (first.path, True) == (second.path, first.generation != second.generation)


def test_what_comes_beside_what_settles_is_seen(memory: Any) -> None:
    """
    Where no event tells of another rank's file, the look at the end of the wait lists the run.
    """
    timers = [Timers(given_store(memory), 3600.0) for _ in range(2)]
    for each in timers:
        each.set(Look(full=True, settling={"ep0-ba1": 0.1}), 100.0, thorough=True, listed=True)

    scopes = [
        each.scope(101.0, everything=False, polled=polled)
        for each, polled in zip(timers, (True, False), strict=True)
    ]

    assert [(["ep0-ba1"], True), (["ep0-ba1"], False)] == [(s.settled, s.full) for s in scopes]


def test_what_settles_of_one_name_is_looked_at_when_it_has(memory: Any) -> None:
    """
    Not only when the run is listed again.
    """
    timers = Timers(given_store(memory), 60.0)
    timers.set(Look(full=True), 100.0, thorough=True, listed=True)
    told = Look(full=False, settling={"ep0-ba1": 0.5})
    timers.set(told, 101.0, thorough=False, listed=False)

    assert 101.5 <= timers.next <= 102.0


def test_the_last_look_goes_over_everything(memory: Any) -> None:
    """
    Also over what was finished and was written again: nobody looks after it.
    """
    timers = Timers(given_store(memory), 60.0)
    timers.set(Look(full=True), 100.0, thorough=True, listed=True)
    before = timers.scope(101.0, everything=True, polled=True)
    timers.last_from = 102.0
    last = timers.scope(102.0, everything=True, polled=True)

    assert (False, True) == (before.thorough, last.thorough)


@pytest.mark.parametrize(
    ("trouble", "again"),
    [(Trouble.UNREADABLE, True), (Trouble.MISSING, False), (Trouble.NOT_A_DIRECTORY, False)],
)
def test_which_last_look_is_made_again(
    memory: Any, tmp_path: Path, trouble: Trouble, again: bool
) -> None:
    """
    For half a minute one that a server has failed, and no other, nor one of a directory.
    """
    timers = [Timers(each, 60.0) for each in (given_store(memory), LocalLocation(str(tmp_path)))]
    for each in timers:
        each.last_from = 100.0
    failed = Look(trouble=trouble)

    assert [not again, True] == [each.is_last(failed, 100.0, 101.0, 101.0) for each in timers]
    assert timers[0].is_last(failed, 100.0, 130.0, 130.0)


def test_a_look_at_one_name_does_not_put_off_the_listing(memory: Any) -> None:
    """
    However often somebody tells of it.
    """
    timers = Timers(given_store(memory), 60.0)
    timers.set(Look(full=True), 100.0, thorough=True, listed=True)
    due = timers.poll_at
    for moment in (101.0, 102.0, 103.0):
        timers.set(Look(full=False), moment, thorough=False, listed=False)

    assert due == timers.poll_at


@pytest.mark.parametrize(("requests", "rest"), [(2, 5.0), (100, 100.0), (100_000, 3600.0)])
def test_what_costs_much_is_asked_less_often(memory: Any, requests: int, rest: float) -> None:
    """
    A look at everything: as many poll intervals later as it took requests, an hour at most.
    """
    location = given_store(memory)
    timers = Timers(location, 1.0)
    location.requests += requests
    timers.set(Look(full=True), 1000.0, thorough=True, listed=True)

    assert 0.9 * rest - 4.0 <= timers.safety_at - 1000.0 <= 1.1 * rest


@pytest.mark.parametrize(("longest", "beat"), [(60.0, 1.0), (5.0, 0.5), (1.0, 0.0625)])
def test_runs_that_ask_at_about_the_same_time_ask_together(
    memory: Any, longest: float, beat: float
) -> None:
    """
    However long each of them waits: waking the event loop costs more than most looks.
    """
    moments = list[float]()
    for number in range(100):
        timers, now = Timers(given_store(memory), longest), 100.0 + number / 97
        timers.set(Look(full=True), now, thorough=True, listed=True)
        moments.append(timers.poll_at)
        assert 0.7 * min(longest, 10.0) <= timers.poll_at - now <= longest

    assert {0.0} == {moment % beat for moment in moments}


def test_the_blocking_twin_is_told(memory: Any) -> None:
    """
    Else it would ask an hour later.
    """
    finish(memory, 1)
    stream = ckptstream.sync.follow(memory, layout=LAYOUT, poll_interval=3600, timeout=SECONDS)
    first, began = next(stream), time.monotonic()
    finish(memory, 2)
    stream.wake(f"{first.run}/step_2/DONE")
    second = next(stream)
    stream.close()

    assert (1, 2) == (first.step, second.step)
    assert time.monotonic() - began < SECONDS


def test_what_is_due_is_due_in_the_next_event_loop(memory: Any) -> None:
    """
    Each call of the blocking twin is one.
    """
    timers = Timers(given_store(memory), 60.0)
    timers.set(Look(full=True, settling={"ep0-ba1": 0.1}), 100.0, thorough=True, listed=True)
    due = timers.next, timers.poll_at
    timers.restart()

    assert due == (timers.next, timers.poll_at)


def test_the_blocking_twin_asks_no_more_often(memory: Any) -> None:
    """
    Each `next()` is an event loop of its own, but no event was lost.
    """
    finish(memory, *range(30))
    stream = ckptstream.sync.follow(memory, layout=LAYOUT, poll_interval=3600)
    for _ in range(30):
        next(stream)
    requests = stream.status().requests_last_hour
    stream.close()

    # A first look, and one question for each before it is handed out.
    assert requests is not None
    assert requests <= 2 + 3 * 30


# Keys, credentials, names.


@anyio_tests
async def test_a_key_with_an_empty_part_hides_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It cannot be named by the client, but what lies beside it can.
    """
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    name = f"lasting-{next(_numbers)}"
    server.make_bucket(name)
    finish(server.store(name), *range(8))
    request = urllib.request.Request(f"{server.endpoint}/{name}/logs//a", b"x", method="PUT")
    with urllib.request.urlopen(request) as answer:
        assert 200 == answer.status

    found = await take(follow(f"s3://{name}", layout=LAYOUT), 8)

    assert [*range(8)] == [ckpt.step for ckpt in found]


def test_only_the_store_says_that_nothing_is_there() -> None:
    """
    Whoever gives credentials answers 404, too.
    """
    from obstore.exceptions import GenericError

    text = "Error performing GET {}: status code: 404 Not Found: {}"
    nobody = GenericError(text.format("http://169.254.169.254/latest", "no role"))
    nothing = GenericError(text.format("http://s3/b", "<Code>NoSuchBucket</Code>"))

    numbers = [storage_error(error, "s3://b").errno for error in (nobody, nothing)]
    assert [errno.EIO, errno.ENOENT] == numbers


@anyio_tests
async def test_an_endpoint_without_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The client panics; the stream says so and waits.
    """
    for key, value in Server("localhost:9000").environment.items():
        monkeypatch.setenv(key, value)
    stream = follow("s3://bucket/run", poll_interval=0.05)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, stream)
        await until(lambda: "is the endpoint a URL?" in str(stream.status()))
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    "url",
    [
        f"s3://KEY:abc/{SECRET}@bucket/run",
        f"s3://KEY:ab#{SECRET}@bucket/run",
        f"s3://KEY:ab@{SECRET}@bucket/run",
        f"s3://KEY:ab\n{SECRET}@bucket/run",
        f"s3://bucket/run?client_options={SECRET}",
        f"s3a://KEY:{SECRET}@bucket/run",
        f"s3:/bucket/run?secret_access_key={SECRET}",
        Path(f"s3://KEY:{SECRET}@bucket/run"),
        f"abfss:/bucket/run?account_key={SECRET}",
        f"s3://bucket/run?secret_access_key={SECRET}".encode(),
        [f"s3://bucket/run?secret_access_key={SECRET}"],
    ],
)
def test_what_is_refused_shows_no_secret(url: Any) -> None:
    """
    Whatever characters are in it, and wherever it is.
    """
    with pytest.raises((TypeError, ValueError), match="checkpoint_dir=") as raised:
        follow(url)

    assert SECRET not in str(raised.value)


def test_a_store_without_a_name_has_no_cursor(memory: Any, tmp_path: Path) -> None:
    """
    The next process would not know it again.
    """
    with pytest.raises(ValueError, match="cannot name a run in such a store"):
        follow(memory, cursor=tmp_path / "evals.db")


def test_one_run_with_two_kinds_of_access() -> None:
    """
    Which one it is, its name does not say.
    """
    with pytest.raises(ValueError, match="is given with two kinds of access"):
        follow("s3://b/r?region=eu-west-1", "s3://b/r?region=us-east-1")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3:/bucket/run", "has one slash"),
        ("S3://bucket/run", "write s3://"),
        ("s3a://bucket/run", "write s3://"),
    ],
)
def test_what_was_meant(url: str, message: str) -> None:
    """
    It is said.
    """
    with pytest.raises(ValueError, match=message):
        follow(url)
