"""
Google Cloud Storage and Azure by their URLs: what a stream delivers of runs that lie there.

The environment, or the URL's options, lead to a server on loopback, as to one of the cloud's own.
"""

from __future__ import annotations

import base64
import logging
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from buckets import SECRET, quick, take
from observing import until
from servers import AZURE_KEY, BUCKET, Azurite, FakeGCS, serving
from steering import rest, run_status

from ckptstream import CheckpointStream
from ckptstream._stores import _bucket

pytest.importorskip("obstore")
pytestmark = pytest.mark.anyio

SECRETS = (
    SECRET,
    base64.b64encode(SECRET.encode()).decode(),
    AZURE_KEY,
    urllib.parse.quote(AZURE_KEY, safe=""),
)
SETTLE = 0.05  # seconds

Shown = Callable[[CheckpointStream], list[str]]


@dataclass(frozen=True)
class Cloud:
    """
    A run there, empty as yet.

    Attributes:
        server: Where it lies.
        scheme: Of its URL.
        key: What its objects' keys begin with.
    """

    server: Azurite | FakeGCS
    scheme: str
    key: str

    @property
    def run(self) -> str:
        """
        Its URL.
        """
        return f"{self.scheme}://{BUCKET}/{self.key}"

    @property
    def options(self) -> str:
        """
        All that the environment says, for the end of a URL.
        """
        return f"?{urllib.parse.urlencode(self.server.options, quote_via=urllib.parse.quote)}"

    def put(self, path: str, content: bytes = b"x") -> None:
        """
        Upload one object.
        """
        self.server.put(f"{self.key}/{path}", content)

    def finish(self, *steps: int, below: str = "", marker: bytes = b"x") -> None:
        """
        Upload checkpoints, their markers last.
        """
        for step in steps:
            self.put(f"{below}step_{step}/model.bin", b"weights")
            self.put(f"{below}step_{step}/DONE", marker)


@pytest.fixture(params=["gs", "az"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """
    With all that is needed for it in the environment.
    """
    server = request.getfixturevalue({"gs": "gcs", "az": "azurite"}[request.param])
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    # No other test of the session, for which there is one server, has that directory.
    return Cloud(server, request.param, f"clouds/{tmp_path.name}")


class Ending:
    """
    Lets a stream end when a test has seen enough of it, after a last look at everything.
    """

    def __init__(self) -> None:
        self.has_come = False

    @property
    def options(self) -> dict[str, object]:
        """
        For a stream.
        """
        return {"timeout": 0.05, "timeout_fn": lambda: self.has_come}

    async def rest(self, stream: CheckpointStream) -> list[int | None]:
        """
        What else comes.
        """
        self.has_come = True
        return await rest(stream)


@pytest.fixture
def ending() -> Ending:
    """
    Has not come yet.
    """
    return Ending()


# What is delivered.


async def test_a_run_by_its_url(cloud: Cloud, ending: Ending) -> None:
    """
    What is there, in order, and what comes later, each once; and nothing that has no marker.
    """
    cloud.finish(10, 9)
    cloud.put("step_12/model.bin")
    stream = quick(cloud.run, **ending.options)

    found = await take(stream, 2)
    cloud.finish(11)
    found += await take(stream, 1)

    assert [9, 10, 11] == [ckpt.step for ckpt in found]
    assert [f"{cloud.run}/step_{step}" for step in (9, 10, 11)] == [ckpt.path for ckpt in found]
    assert {cloud.run} == {ckpt.run for ckpt in found}
    assert [] == await ending.rest(stream)


async def test_a_store_that_the_user_has_made(cloud: Cloud) -> None:
    """
    Its prefix is the run, which has the same URL as if it had been named by that.
    """
    cloud.finish(1)

    [ckpt] = await take(quick(cloud.server.store(BUCKET, prefix=cloud.key)), 1)

    assert [ckpt] == await take(quick(cloud.run), 1)
    assert f"{cloud.run}/step_1" == ckpt.path


async def test_written_again_it_is_a_new_checkpoint(cloud: Cloud, ending: Ending) -> None:
    """
    Its ETag tells, though size and second may be the same; every stream says the same of it.
    """
    cloud.finish(1, marker=b"first")
    stream = quick(cloud.run, **ending.options)

    [first] = await take(stream, 1)
    cloud.finish(1, marker=b"other")
    [second] = await take(stream, 1)

    assert (first.path, first.step) == (second.path, second.step)
    assert first.generation != second.generation
    assert [second] == await take(quick(cloud.run), 1)
    assert [] == await ending.rest(stream)


async def test_what_was_done_is_remembered(cloud: Cloud, tmp_path: Path) -> None:
    """
    By the URL.
    """
    cursor = tmp_path / "evals.db"
    found = list[list[int | None]]()
    for steps in ((1, 2), (3,)):
        cloud.finish(*steps)
        async with quick(cloud.run, cursor=cursor, timeout=0) as stream:
            found.append(await rest(stream))

    assert [[1, 2], [3]] == found


async def test_a_layout_that_reads_what_a_file_says(cloud: Cloud) -> None:
    """
    A file that is cut off says nothing.
    """
    for name, content in (("config.json", b"{}"), ("model.bin", b"weights")):
        cloud.put(f"checkpoint-1/{name}", content)
    cloud.put("checkpoint-1/trainer_state.json", b'{"global_st')
    stream = quick(cloud.run, layout="hf")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, stream, 1)
        await until(lambda: "trainer_state.json" in run_status(stream).waiting_for)
        assert run_status(stream).newest is None
        cloud.put("checkpoint-1/trainer_state.json", b'{"global_step": 1}')

    assert run_status(stream).newest is not None


# Patterns.


async def test_each_prefix_that_matches_is_a_run(cloud: Cloud, ending: Ending) -> None:
    """
    Those that are there, and those that come later.
    """
    cloud.finish(1, below="a/")
    cloud.put("notes.txt")
    stream = quick(f"{cloud.run}/*", **ending.options)

    [first] = await take(stream, 1)
    cloud.finish(2, below="b/")
    [second] = await take(stream, 1)

    assert [f"{cloud.run}/a", f"{cloud.run}/b"] == [first.run, second.run]
    assert [f"{cloud.run}/a/step_1", f"{cloud.run}/b/step_2"] == [first.path, second.path]
    assert [2] == [pattern.runs for pattern in stream.status().patterns]
    assert [] == await ending.rest(stream)


async def test_a_prefix_below_each_match(cloud: Cloud) -> None:
    """
    A run joins when it has that prefix.
    """
    cloud.put("a/config.yaml")
    cloud.finish(1, below="b/checkpoints/")
    stream = quick(f"{cloud.run}/*/checkpoints")

    [first] = await take(stream, 1)
    cloud.finish(2, below="a/checkpoints/")
    [second] = await take(stream, 1)

    assert [f"{cloud.run}/{name}/checkpoints" for name in "ba"] == [first.run, second.run]


# Pointers.


@dataclass(frozen=True)
class Pointed:
    """
    How a framework names the checkpoint that it has finished.
    """

    layout: str
    file: str
    pointer: str
    content: str

    def save(self, cloud: Cloud, step: int) -> None:
        cloud.put(self.file.format(step), b"weights")
        cloud.put(self.pointer, self.content.format(step).encode())


DEEPSPEED = Pointed(
    "deepspeed", "global_step{}/mp_rank_00_model_states.pt", "latest", "global_step{}"
)
MEGATRON = Pointed(
    "megatron",
    "iter_{:07d}/mp_rank_00/model_optim_rng.pt",
    "latest_checkpointed_iteration.txt",
    "{}",
)
each_pointer = pytest.mark.parametrize("pointed", [DEEPSPEED, MEGATRON], ids=lambda p: p.layout)


@each_pointer
async def test_a_pointer_is_read(
    cloud: Cloud, ending: Ending, monkeypatch: pytest.MonkeyPatch, pointed: Pointed
) -> None:
    """
    Again and again; what it names is delivered when that has settled.
    """
    monkeypatch.setattr(_bucket, "SETTLE", SETTLE)
    pointed.save(cloud, 1)
    stream = quick(cloud.run, layout=pointed.layout, **ending.options)

    found = await take(stream, 1)
    pointed.save(cloud, 2)
    found += await take(stream, 1)
    cloud.put(pointed.file.format(3), b"weights")

    names = [pointed.file.format(step).partition("/")[0] for step in (1, 2)]
    assert [f"{cloud.run}/{name}" for name in names] == [ckpt.path for ckpt in found]
    assert [] == await ending.rest(stream)


@each_pointer
async def test_wake_by_the_pointer_finds_what_it_names(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, pointed: Pointed
) -> None:
    """
    Nobody need tell of the checkpoint itself.
    """
    monkeypatch.setattr(_bucket, "SETTLE", SETTLE)
    pointed.save(cloud, 1)
    stream = quick(cloud.run, layout=pointed.layout, poll_interval=3600)
    await take(stream, 1)
    pointed.save(cloud, 2)
    stream.wake(f"{cloud.run}/{pointed.pointer}")

    assert [2] == [ckpt.step for ckpt in await take(stream, 1)]


@pytest.mark.parametrize("inside", ["", "/step_2/DONE"])
async def test_wake_looks_at_once(cloud: Cloud, inside: str) -> None:
    """
    An hour before the next look; at the run, or at an object that was uploaded.
    """
    cloud.finish(1)
    stream = quick(cloud.run, poll_interval=3600)
    await take(stream, 1)
    cloud.finish(2)
    stream.wake(f"{cloud.run}{inside}")

    assert [2] == [ckpt.step for ckpt in await take(stream, 1)]


# Secrets.


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture) -> Shown:
    """
    Says which secrets a stream has shown: in its status, its representation, or the log.
    """
    caplog.set_level(logging.DEBUG)

    def shown(stream: CheckpointStream) -> list[str]:
        status = stream.status()
        texts = [repr(stream), str(status), repr(status), status._repr_html_(), caplog.text]
        return [secret for secret in SECRETS for text in texts if secret in text]

    return shown


@pytest.mark.parametrize("pattern", ["", "/*"])
async def test_options_of_a_url(
    cloud: Cloud, shown: Shown, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    """
    They say all that the environment would, and are never shown.
    """
    for key in cloud.server.environment:
        monkeypatch.delenv(key)
    cloud.finish(1, below="a/")
    stream = quick(f"{cloud.run}{pattern or '/a'}{cloud.options}")

    [ckpt] = await take(stream, 1)

    assert (f"{cloud.run}/a/step_1", f"{cloud.run}/a") == (ckpt.path, ckpt.run)
    assert [] == shown(stream)
    assert not [secret for secret in SECRETS if secret in repr(ckpt)]


async def test_a_bucket_that_is_not_there(cloud: Cloud, shown: Shown) -> None:
    """
    It is waited for, with a reason that shows no secret.
    """
    stream = quick(f"{cloud.scheme}://elsewhere/runs{cloud.options}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, stream, 1)
        await until(lambda: "the prefix" in run_status(stream).waiting_for)
        assert [] == shown(stream)
        tasks.cancel_scope.cancel()


async def test_an_account_that_has_another_key(
    azurite: Azurite, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Azure refuses it, until the environment has the right one.
    """
    azurite.put("clouds/another-key/step_1/DONE", b"x")
    for key, value in azurite.environment.items():
        monkeypatch.setenv(key, value)
    wrong = base64.b64encode(SECRET.encode()).decode()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", wrong)
    stream = quick(f"az://{BUCKET}/clouds/another-key")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, stream, 1)
        await until(lambda: "403" in run_status(stream).waiting_for)
        assert [] == shown(stream)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)

    assert run_status(stream).newest is not None
    assert [] == shown(stream)


# Faults.


async def test_plain_http_is_refused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Unless the variable that is named allows it.
    """
    variable = f"{'GOOGLE' if cloud.scheme == 'gs' else 'AZURE'}_ALLOW_HTTP"
    monkeypatch.delenv(variable)
    stream = quick(cloud.run)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, stream, 1)
        await until(lambda: "http is refused" in run_status(stream).waiting_for)
        assert f"set {variable}=true" in run_status(stream).waiting_for
        tasks.cancel_scope.cancel()


async def test_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: Ending, shown: Shown
) -> None:
    """
    Nothing is lost, and nothing comes twice.
    """
    with serving(lambda path: FakeGCS(path, "filesystem"), tmp_path) as server:
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        cloud = Cloud(server, "gs", "runs/7b")
        cloud.finish(1)
        stream = quick(cloud.run, **ending.options)
        found = await take(stream, 1)
        server.kill()

        async with anyio.create_task_group() as tasks:

            async def take_one() -> None:
                found.extend(await take(stream, 1))

            tasks.start_soon(take_one)
            await until(lambda: "the server refuses connections" in str(stream.status()))
            await anyio.to_thread.run_sync(server.start)
            cloud.finish(2)

        assert [1, 2] == [ckpt.step for ckpt in found]
        assert [] == await ending.rest(stream)
        assert [] == shown(stream)
