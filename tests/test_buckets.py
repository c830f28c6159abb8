"""
Runs in object stores: what is delivered of them, what is waited for, and what is refused.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from buckets import LAYOUT, SECRET, Proxy, Server, finish, put, quick, take
from observing import SECONDS

import ckptstream
import ckptstream.sync
from ckptstream import Checkpoint, CheckpointStream, PinUnsupported, follow
from ckptstream._stores import _bucket, bucket_location
from ckptstream._stores._client import connect

pytest.importorskip("obstore")
anyio_tests = pytest.mark.anyio

Functions = Callable[..., Any]


@pytest.fixture
def memory() -> Any:
    """
    An object store in this process.
    """
    from obstore.store import MemoryStore

    return MemoryStore()


@asynccontextmanager
async def waiting(stream: CheckpointStream, words: str) -> AsyncIterator[None]:
    """
    While somebody waits for a checkpoint, and from the moment on in which it waits for *words*.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, stream, 1)
        with anyio.fail_after(SECONDS):
            while words not in stream.status().runs[0].waiting_for:
                await anyio.sleep(0.01)
        yield


# What is delivered.


@anyio_tests
async def test_a_run_by_its_url(server: Server, bucket: str) -> None:
    """
    In order, also what comes later, with URLs as paths.
    """
    run = f"s3://{bucket}/runs/7b"
    store = server.store(bucket)
    finish(store, 10, 9, below="runs/7b/")
    stream = quick(run)

    first = await take(stream, 2)
    finish(store, 11, below="runs/7b/")
    last = await take(stream, 1)

    assert [9, 10, 11] == [ckpt.step for ckpt in first + last]
    assert f"{run}/step_11" == last[0].path == str(last[0])
    assert {run} == {ckpt.run for ckpt in first + last}


@anyio_tests
async def test_a_store_that_the_user_has_made(server: Server, bucket: str) -> None:
    """
    Its prefix is the run, and its credentials are nobody's business.
    """
    finish(server.store(bucket), 1, below="runs/7b/")
    stream = quick(server.store(bucket, prefix="runs/7b"))

    [ckpt] = await take(stream, 1)

    assert f"s3://{bucket}/runs/7b/step_1" == ckpt.path


@anyio_tests
async def test_several_runs_in_buckets_and_in_directories(memory: Any, run: Path) -> None:
    """
    One stream over all of them.
    """
    finish(memory, 1)
    (run / "step_2").mkdir()
    (run / "step_2/DONE").touch()

    found = await take(quick(memory, run), 2)

    assert {1, 2} == {ckpt.step for ckpt in found}


@anyio_tests
async def test_written_again_it_is_a_new_checkpoint(memory: Any) -> None:
    """
    Its ETag tells, though size and second are the same.
    """
    finish(memory, 1)
    stream = quick(memory)

    [first] = await take(stream, 1)
    put(memory, "step_1/DONE")
    [second] = await take(stream, 1)

    assert (first.path, first.step) == (second.path, second.step)
    assert first.generation != second.generation


@anyio_tests
async def test_the_generation_is_the_same_for_every_stream(memory: Any) -> None:
    """
    A cursor compares it with that of another process.
    """
    finish(memory, 1)

    [first] = await take(quick(memory), 1)
    [second] = await take(quick(memory), 1)

    assert first == second
    assert first == pickle.loads(pickle.dumps(first))


@anyio_tests
async def test_what_was_done_is_remembered(
    server: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    By the URL, whatever the working directory is.
    """
    finish(server.store(bucket), 1, 2)
    cursor = tmp_path / "evals.db"

    async with quick(f"s3://{bucket}", cursor=cursor, timeout=0) as stream:
        first = [ckpt.step async for ckpt in stream]
    monkeypatch.chdir(tmp_path)
    finish(server.store(bucket), 3)
    async with quick(f"s3://{bucket}", cursor=cursor, timeout=0) as stream:
        second = [ckpt.step async for ckpt in stream]

    assert ([1, 2], [3]) == (first, second)


@anyio_tests
async def test_functions_of_tensorflow(server: Server, bucket: str) -> None:
    """
    They give URLs.
    """
    finish(server.store(bucket), 1, 2)
    url = f"s3://{bucket}"

    latest = await ckptstream.latest_checkpoint(url, layout=LAYOUT)
    same = await ckptstream.wait_for_new_checkpoint(url, latest, timeout=0, layout=LAYOUT)

    assert (f"{url}/step_2", None) == (latest, same)


def test_the_blocking_twin(memory: Any) -> None:
    """
    The same, without an event loop.
    """
    finish(memory, 1, 2)

    stream = ckptstream.sync.follow(memory, layout=LAYOUT, timeout=0)

    assert [1, 2] == [ckpt.step for ckpt in stream]


# Evidence.


@pytest.mark.parametrize(
    ("layout", "name", "before", "last"),
    [
        ("hf", "checkpoint-1", {"config.json": b"{}", "model.bin": b"x"}, "trainer_state.json"),
        (
            "orbax",
            "1",
            {
                "_CHECKPOINT_METADATA": b'{"commit_timestamp_nsecs": 17}',
                "default/_METADATA": b"{}",
                "default/d/x": b"x",
                "default/manifest.ocdbt": b"x",
            },
            "commit_success.txt",
        ),
        ("dcp", "step-1", {"__0_0.distcp": b"x"}, ".metadata"),
        (LAYOUT, "step_1", {"model.bin": b"x"}, "DONE"),
    ],
)
@anyio_tests
async def test_the_marker_decides(
    memory: Any, layout: str, name: str, before: dict[str, bytes], last: str
) -> None:
    """
    Whatever else is there: in a bucket directories fill up under their final names.
    """
    for file, content in before.items():
        put(memory, f"{name}/{file}", content)
    stream = quick(memory, layout=layout)

    async with waiting(stream, last):
        put(memory, f"{name}/{last}", b'{"global_step": 1}')

    assert stream.status().runs[0].newest is not None


@anyio_tests
async def test_a_rename_proves_nothing(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What is finished elsewhere when it has its name is finished here when it has settled.
    """
    monkeypatch.setattr(_bucket, "SETTLE", 0.2)
    put(memory, "checkpoint_1/target.a/0")
    put(memory, "checkpoint_1/checkpoint")
    stream = quick(memory, layout="t5x")

    async with waiting(stream, "settled"):
        put(memory, "checkpoint_1/target.b/0")
        asked = time.monotonic()

    assert time.monotonic() - asked >= 0.2


@anyio_tests
async def test_a_pointer_is_read(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    `latest` as DeepSpeed writes it, after which the data must settle.
    """
    monkeypatch.setattr(_bucket, "SETTLE", 0.05)
    put(memory, "global_step1/mp_rank_00_model_states.pt")
    stream = quick(memory, layout="deepspeed")

    async with waiting(stream, "latest"):
        put(memory, "latest", b"global_step1")

    assert stream.status().runs[0].newest is not None


@pytest.mark.parametrize("layout", ["composer", "auto"])
@anyio_tests
async def test_a_file_in_place_of_a_link(
    memory: Any, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """
    Composer's comes when all else is there; `.metadata` may come before the shards.
    """
    monkeypatch.setattr(_bucket, "SETTLE", 0.05)
    put(memory, "ep0-ba1/.metadata")
    put(memory, "ep0-ba1/__0_0.distcp")
    stream = quick(memory, layout=layout)

    async with waiting(stream, "not named by 'latest-rank0.pt.symlink' yet"):
        put(memory, "ep0-ba1/__1_0.distcp")
        await anyio.sleep(0.2)
        assert stream.status().runs[0].newest is None
        put(memory, "latest-rank0.pt.symlink", b"my-run/checkpoints/ep0-ba1")

    assert stream.status().runs[0].newest is not None


@anyio_tests
async def test_it_is_polled(memory: Any) -> None:
    """
    `status()` says so and why, though events were asked for.
    """
    finish(memory, 1)
    stream = quick(memory, watcher="inotify")

    await take(stream, 1)
    [run] = stream.status().runs

    assert ("poll", "a bucket sends no events") == (
        run.watcher,
        run.watcher_reason,
    )


# Secrets.


@anyio_tests
async def test_secrets_are_never_shown(
    server: Server, bucket: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Not those in a URL, nor what a server says, whatever goes wrong.
    """
    caplog.set_level(logging.DEBUG)
    proxy.status = 403
    url = f"s3://{bucket}/runs?secret_access_key={SECRET}&access_key_id={SECRET}"
    stream = quick(url)

    put(server.store(bucket), "runs/step_1/DONE")
    async with waiting(stream, "403"):
        shown = [repr(stream), str(stream.status()), repr(stream.status()), caplog.text]
        shown.append(stream.status()._repr_html_())
        proxy.status = None
        runs = [run.run for run in stream.status().runs]

    assert [f"s3://{bucket}/runs"] == runs
    assert not [text for text in shown if SECRET in text]


@pytest.mark.parametrize(
    "url",
    [
        f"s3://user:{SECRET}@bucket/run",
        f"s3://bucket/run/**?secret_access_key={SECRET}",
        f"ftp://user:{SECRET}@host/run?token={SECRET}",
        f"s3://bucket//run?token={SECRET}",
        f"s3://bucket/run?{SECRET}",
        f"s3://?token={SECRET}",
        f"s3://bucket/run\0?token={SECRET}",
    ],
)
def test_an_error_about_a_url_does_not_show_secrets(url: str) -> None:
    """
    What is refused may hold one.
    """
    with pytest.raises(ValueError, match=r"checkpoint_dir='[a-z0-9]+://") as raised:
        follow(url)

    assert SECRET not in str(raised.value)


@anyio_tests
@pytest.mark.parametrize("option", ["timeout", "allow_http", "access_key_id"])
async def test_an_option_whose_value_is_wrong(
    bucket: str, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """
    It will not get better by waiting; and no traceback shows it.
    """
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    with pytest.raises(ValueError, match=option) as raised:
        await take(quick(f"s3://{bucket}?{option}={SECRET}"), 1)

    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_runs_in_one_bucket_share_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Unless they have other credentials: what one may read, the other may not.
    """
    url, options = "s3://bucket", {"access_key_id": "a", "secret_access_key": SECRET}
    client = connect(url, options)

    assert client is connect(url, dict(options))
    assert client is not connect(url, {**options, "access_key_id": "b"})
    monkeypatch.setenv("AWS_SESSION_TOKEN", "c")
    assert client is not connect(url, options)


def test_how_long_a_client_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Ten seconds, unless the environment or the URL says something else.
    """

    def timeout(**options: str) -> object:
        client: Any = connect("s3://bucket", {"region": "x", **options})
        return client.client_options["timeout"]

    usual = timeout()
    monkeypatch.setenv("AWS_TIMEOUT", "20s")

    assert ["10s", "20s", "30s"] == [usual, timeout(), timeout(timeout="30s")]


def test_a_secret_with_a_plus() -> None:
    """
    A URL's options are written as they are, but for `%`, `&` and `#`.
    """
    location = bucket_location("run", "s3://bucket?secret_access_key=a+b/c%26d%25&region=x")

    assert {"secret_access_key": "a+b/c&d%", "region": "x"} == location.options


@anyio_tests
async def test_an_option_that_is_not_known(bucket: str) -> None:
    """
    Named, without its value.
    """
    with pytest.raises(ValueError, match="does not know all of the options 'colour'") as raised:
        await take(quick(f"s3://{bucket}?colour={SECRET}"), 1)

    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_cursor_by_a_url() -> None:
    """
    Refused, without what may be secret.
    """
    with pytest.raises(ValueError, match="is a URL: name a file") as raised:
        follow("s3://bucket/run", cursor=f"s3://bucket/evals.db?token={SECRET}")

    assert SECRET not in str(raised.value)


def test_a_location_does_not_show_its_options() -> None:
    """
    Wherever it may be printed.
    """
    assert SECRET not in repr(bucket_location("run", f"s3://bucket?secret_access_key={SECRET}"))


@anyio_tests
async def test_wake_takes_a_url_with_options(server: Server, bucket: str) -> None:
    """
    As the run was given.
    """
    url = f"s3://{bucket}/runs/7b?region=us-east-1"
    finish(server.store(bucket), 1, below="runs/7b/")
    stream = quick(url, poll_interval=3600)
    await take(stream, 1)
    finish(server.store(bucket), 2, below="runs/7b/")
    stream.wake(url)

    assert [2] == [ckpt.step for ckpt in await take(stream, 1)]


# What is refused.


CKPT = Checkpoint("s3://bucket/runs/7b/step_1", 1, "s3://bucket/runs/7b", "hf", "1")


@pytest.mark.parametrize("use", [os.fspath, open, Path], ids=["fspath", "open", "Path"])
def test_it_is_no_file(use: Functions) -> None:
    """
    Where a file's path is asked for, the error says what to use.
    """
    # Since Python 3.12 pathlib says it in its own words.
    own = "os.PathLike" if use is Path and sys.version_info >= (3, 12) else "from_url"
    with pytest.raises(TypeError, match=own):
        use(CKPT)


def test_it_cannot_be_pinned() -> None:
    """
    Neither by async code nor by blocking code, nor by a stream.
    """
    for pin in (ckptstream.pin, ckptstream.sync.pin):
        with pytest.raises(PinUnsupported, match="an object store has no hard links; copy it"):
            pin(CKPT)
    with pytest.raises(ValueError, match="pin=True: an object store has no links"):
        follow("s3://bucket/run", pin=True)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/run", "is a URL: followed are s3://, gs://, az://"),
        ("file:///runs/7b", "is a URL: followed are"),
        ("s3://buck*/runs", "has a '[*]' in the bucket's name: name each bucket"),
        ("s3://bucket/**/x", "holds '[*][*]': write a '[*]' for each level"),
        ("s3://", "names no bucket"),
        ("s3:///run", "names no bucket"),
        ("s3://user@bucket/run", "names no bucket"),
        ("gs://bucket//run", "is no plain path"),
        ("gs://bucket/../run", "is no plain path"),
        ("az://bucket/run?region", "has options that are not like"),
    ],
)
def test_urls_that_cannot_be_followed(url: str, message: str) -> None:
    """
    Refused by the call itself.
    """
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        follow(url)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    One clear error says what to install.
    """
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> object:
        return None if name == "obstore" else real(name, package)

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    monkeypatch.delitem(sys.modules, "obstore", raising=False)

    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ckptstream\[object-store\]'"):
        follow("s3://bucket/run")


def test_the_same_run_is_one(memory: Any) -> None:
    """
    However often it is named, with a slash at its end or without one.
    """
    stream = follow("gs://bucket/run", "gs://bucket/run/", memory, memory)

    assert 2 == len(stream.status().runs)


@anyio_tests
async def test_an_account_that_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Azure needs one: `status()` says how to name it.
    """
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    stream = quick("az://container/runs/7b")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, stream)
        with anyio.fail_after(SECONDS):
            while "set AZURE_STORAGE_ACCOUNT_NAME" not in str(stream.status()):
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("url", "path", "lane"),
    [
        ("s3://bucket", "s3://bucket", "s3://bucket"),
        ("gs://bucket/runs/7b/", "gs://bucket/runs/7b", "gs://bucket"),
        ("az://container/run?timeout=5s", "az://container/run", "az://container"),
        (
            "abfss://container@account.dfs.core.windows.net/run",
            "abfss://container@account.dfs.core.windows.net/run",
            "abfss://container@account.dfs.core.windows.net",
        ),
    ],
)
def test_what_a_url_names(url: str, path: str, lane: str) -> None:
    """
    The run, without options; runs in one bucket hang together.
    """
    location = bucket_location("checkpoint_dir", url)

    assert (path, lane, path) == (location.path, location.lane(), location.absolute())
