"""
Faults of object stores: each is waited for with its reason, and nothing is lost or comes twice.
"""

from __future__ import annotations

import datetime
import http.server
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from buckets import SECRET, Answer, Proxy, Server, finish, quick, take
from observing import until
from paging import PAGE, Pages, pages
from servers import BUCKET, SeaweedFS
from steering import run_status

from ckptstream import CheckpointStream

pytest.importorskip("obstore")
pytestmark = pytest.mark.anyio

TICKS = 20
COUNT = 10_000

Heal = Callable[[], object]
Survive = Callable[..., Awaitable[None]]


@pytest.fixture
def survive(caplog: pytest.LogCaptureFixture) -> Survive:
    """
    Follows a stream through a fault.

    It waits with *words* in `status()` while the event loop goes on, can be cancelled meanwhile,
    and once *heal* has been called it delivers the *expected* steps and nothing else. What it
    says at any time holds no secret.
    """
    caplog.set_level(logging.DEBUG)

    async def survive(stream: CheckpointStream, words: str, heal: Heal, *expected: int) -> None:
        found = list[int | None]()
        async with waiting(stream, words, found):
            assert [] == found
        async with waiting(stream, words, found):
            assert_no_secret(stream, caplog)
            await anyio.to_thread.run_sync(heal)
            await until(lambda: len(found) >= len(expected))
            await look_again(stream)

        assert list(expected) == found
        assert 0 == run_status(stream).missed_count
        assert_no_secret(stream, caplog)

    return survive


@asynccontextmanager
async def waiting(
    stream: CheckpointStream, words: str, found: list[int | None]
) -> AsyncIterator[None]:
    """
    While somebody takes all that comes, and from the moment on in which they wait for *words*.

    They are cancelled in the end.
    """
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.001)
            ticks += 1

    async def consume() -> None:
        async for ckpt in stream:
            found.append(ckpt.step)
        pytest.fail("the stream has ended by itself")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        tasks.start_soon(consume)
        await until(lambda: words in run_status(stream).waiting_for)
        last = ticks + TICKS
        await until(lambda: ticks > last)
        yield
        tasks.cancel_scope.cancel()


def assert_no_secret(stream: CheckpointStream, caplog: pytest.LogCaptureFixture) -> None:
    status = stream.status()
    shown = [repr(stream), str(status), repr(status), status._repr_html_(), caplog.text]
    assert [] == [text for text in shown if SECRET in text]


async def look_again(stream: CheckpointStream) -> None:
    """
    Until it has looked from beginning to end once more.
    """
    for _ in range(2):
        now = time.monotonic()
        stream.wake()

        def has_looked(since: float = now) -> bool:
            return (run_status(stream).last_look or 0.0) < time.monotonic() - since

        await until(has_looked)


# The server.


async def test_down_at_the_start(
    server: Server, bucket: str, proxy: Proxy, survive: Survive
) -> None:
    """
    It is waited for, and heard of when it is up.
    """
    finish(server.store(bucket), 1)
    proxy.close()
    again = list[Proxy]()

    def start() -> None:
        again.append(Proxy(server, port=int(proxy.endpoint.rpartition(":")[2])))

    await survive(quick(f"s3://{bucket}"), "the server refuses connections", start, 1)

    again[0].close()


async def test_killed_and_started_again(seaweedfs: SeaweedFS, survive: Survive) -> None:
    """
    A process that had no time to say so; what it held is not delivered again, what comes is.
    """
    run = f"runs/{time.monotonic_ns()}"
    finish(seaweedfs.store(BUCKET), 1, 2, below=f"{run}/")
    stream = quick(seaweedfs.store(BUCKET, prefix=run, retry_config={"max_retries": 0}))
    first = await take(stream, 2)
    seaweedfs.kill()

    def start() -> None:
        seaweedfs.start()
        finish(seaweedfs.store(BUCKET), 3, 4, below=f"{run}/")

    await survive(stream, "the server refuses connections", start, 3, 4)

    assert [1, 2] == [ckpt.step for ckpt in first]


async def test_slow(server: Server, bucket: str, proxy: Proxy, survive: Survive) -> None:
    """
    It takes a question and keeps it; whoever is cancelled does not wait for the answer.
    """
    finish(server.store(bucket), 1)
    proxy.hold()
    stream = quick(f"s3://{bucket}?timeout=600s")
    asked = list[int]()

    def release() -> None:
        asked.append(proxy.holding)
        proxy.release()

    await survive(stream, "the storage does not answer", release, 1)

    assert [1] == asked


async def test_slower_than_the_client_waits(
    server: Server, bucket: str, proxy: Proxy, survive: Survive
) -> None:
    """
    A question is given up after `timeout`, which is said, and asked again.
    """
    finish(server.store(bucket), 1)
    proxy.hold()

    stream = quick(f"s3://{bucket}?timeout=50ms")
    await survive(stream, "the server does not answer in time", proxy.release, 1)


@pytest.mark.thorough
async def test_ten_seconds_for_each_answer(
    server: Server, bucket: str, proxy: Proxy, survive: Survive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As long as the client waits if nothing else is said.
    """
    finish(server.store(bucket), 1)
    monkeypatch.setattr(proxy, "wait", lambda: time.sleep(10.0))

    def hurry() -> None:
        monkeypatch.setattr(proxy, "wait", lambda: None)

    await survive(quick(f"s3://{bucket}"), "the storage does not answer", hurry, 1)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, "403 Forbidden, Wrong"),
        (429, "429 Too Many Requests"),
        (500, "500 Internal Server Error"),
        (503, "503 Service Unavailable"),
    ],
)
async def test_an_error(
    server: Server, bucket: str, proxy: Proxy, survive: Survive, status: int, reason: str
) -> None:
    """
    It is asked again until it has recovered: at the start, and after it has worked.
    """
    finish(server.store(bucket), 1)
    stream = quick(f"s3://{bucket}")

    def recover() -> None:
        proxy.status = None

    proxy.status = status
    await survive(stream, f"cannot be read ({reason}", recover, 1)
    proxy.status = status
    finish(server.store(bucket), 2)
    await survive(stream, f"cannot be read ({reason}", recover, 2)


async def test_a_bucket_that_does_not_exist_yet(
    server: Server, bucket: str, survive: Survive
) -> None:
    """
    Nor does the run in it.
    """
    name = f"{bucket}-later"

    def make() -> None:
        server.make_bucket(name)
        finish(server.store(name), 1, below="runs/7b/")

    await survive(quick(f"s3://{name}/runs/7b"), "not there yet", make, 1)


async def test_a_run_that_does_not_exist_yet(server: Server, bucket: str, survive: Survive) -> None:
    """
    In a bucket that does.
    """

    def make() -> None:
        finish(server.store(bucket), 1, below="runs/7b/")

    await survive(quick(f"s3://{bucket}/runs/7b"), "not there yet", make, 1)


# Listings.


@pytest.mark.parametrize(
    ("how", "reason"), [("cut", "the answer broke off"), ("truncated", "the answer is no listing")]
)
async def test_half_a_listing(
    server: Server, bucket: str, proxy: Proxy, survive: Survive, how: str, reason: str
) -> None:
    """
    The connection breaks in its middle, or all is well but for the half that is missing.

    Nothing that was there is taken for deleted.
    """
    finish(server.store(bucket), 1, 2)
    stream = quick(f"s3://{bucket}")
    first = await take(stream, 2)

    def mend() -> None:
        proxy.listing = ""

    proxy.listing = how
    finish(server.store(bucket), 3)
    await survive(stream, f"cannot be read ({reason}", mend, 3)

    assert [1, 2] == [ckpt.step for ckpt in first]


@pytest.fixture
def paging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    """
    A server to which the environment leads.
    """
    with pages() as server:
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        yield server


async def test_a_listing_that_is_stale(paging: Pages) -> None:
    """
    What it does not show any more was not deleted, and does not come again when it shows it.
    """
    paging.put("step_1/DONE", "step_2/model.bin")
    stale = paging.keys
    stream = quick("s3://bucket")
    found = list[int | None]()

    async with waiting(stream, "step_2", found):
        paging.put("step_2/DONE", "step_3/DONE", "step_3/model.bin")
        await until(lambda: len(found) == 3)
        paging.listed = stale
        await look_again(stream)
        paging.put("step_4/DONE")
        await look_again(stream)
        before = list(found)
        paging.listed = None
        await until(lambda: len(found) == 4)
        await look_again(stream)

    assert ([1, 2, 3], [1, 2, 3, 4]) == (before, found)
    assert 0 == run_status(stream).missed_count


async def test_ten_pages(paging: Pages) -> None:
    """
    Ten thousand checkpoints: each page is asked for by the token that the one before it gave.
    """
    paging.put(*(f"runs/7b/step_{step:05}/DONE" for step in range(COUNT)))
    stream = quick("s3://bucket/runs/7b", poll_interval=3600, latest_only=True)

    [newest] = await take(stream, 1)
    skipped = run_status(stream).skipped
    listed = len(paging.used) + 1
    paging.put(f"runs/7b/step_{COUNT}/DONE")
    stream.wake()
    [last] = await take(stream, 1)

    assert (COUNT - 1, COUNT - 1, COUNT) == (newest.step, skipped, last.step)
    assert listed >= COUNT // PAGE
    assert list(paging.given) == paging.used


# Credentials.


async def test_a_token_that_expires(
    server: Server, bucket: str, proxy: Proxy, survive: Survive
) -> None:
    """
    S3 says so, and what has a new one is answered.
    """
    finish(server.store(bucket), 1)
    stream = quick(f"s3://{bucket}")
    await take(stream, 1)
    proxy.status, proxy.code = 400, "ExpiredToken"
    finish(server.store(bucket), 2)

    def renew() -> None:
        proxy.status = None

    await survive(stream, "cannot be read (400 Bad Request, ExpiredToken", renew, 2)


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "ExpiredToken")])
async def test_credentials_that_are_replaced_in_the_environment(
    server: Server,
    bucket: str,
    proxy: Proxy,
    survive: Survive,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
) -> None:
    """
    They are taken, though the stream was opened with others.
    """
    finish(server.store(bucket), 1)
    proxy.code, answer = code, proxy.answer

    def checked(url: str, asked: http.server.BaseHTTPRequestHandler) -> Answer:
        proxy.status = None if "Credential=new/" in asked.headers["Authorization"] else status
        return answer(url, asked)

    monkeypatch.setattr(proxy, "answer", checked)

    def replace() -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")

    await survive(quick(f"s3://{bucket}"), code, replace, 1)


class Provider:
    """
    Gives credentials for a minute, if it can.
    """

    def __init__(self) -> None:
        self.secret = SECRET
        self.error: Exception | None = None

    def __call__(self) -> Any:
        if self.error is not None:
            raise self.error
        now = datetime.datetime.now(datetime.timezone.utc)
        return {
            "access_key_id": "test",
            "secret_access_key": self.secret,
            "expires_at": now + datetime.timedelta(minutes=1),
        }


@pytest.mark.parametrize(
    ("secret", "error", "reason"),
    [
        ("another", None, "403 Forbidden, SignatureDoesNotMatch"),
        (SECRET, RuntimeError(f"log in again, {SECRET}"), "no credentials were given"),
    ],
    ids=["they are wrong", "there are none"],
)
async def test_a_credential_provider(
    seaweedfs: SeaweedFS, survive: Survive, secret: str, error: Exception | None, reason: str
) -> None:
    """
    It gives what the server does not take, or raises an error of its own, and is asked again.
    """
    from obstore.store import S3Store

    run = f"runs/{time.monotonic_ns()}"
    provider = Provider()
    finish(seaweedfs.store(BUCKET), 1, below=f"{run}/")
    store = S3Store(
        BUCKET,
        prefix=run,
        endpoint=seaweedfs.endpoint,
        region="us-east-1",
        credential_provider=provider,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    stream = quick(store)
    await take(stream, 1)
    provider.secret, provider.error = secret, error

    def renew() -> None:
        # Not before: for a moment the client goes on with what it was given last.
        finish(seaweedfs.store(BUCKET), 2, below=f"{run}/")
        provider.secret, provider.error = SECRET, None

    await survive(stream, reason, renew, 2)
