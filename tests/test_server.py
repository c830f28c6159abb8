"""
The README's server, under uvicorn in a process of its own, with real clients.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
from examples import blocks
from observing import NATIVE_LOOPS, SECONDS, linux, until, wait_until

from ckptstream.testing import save

pytestmark = [linux, pytest.mark.anyio]

RUNS = [f"sweeps/run-{number:03}/checkpoints" for number in range(200)]
HUNG = "sweeps/hung/checkpoints"

# `python server.py`, but on a free port, and with a directory whose listing never ends.
PROGRAM = """
import functools, os, runpy, sys, threading
import uvicorn
import ckptstream._stores._local as local

class Os:
    def __getattr__(self, name):
        return getattr(os, name)

    def listdir(self, path):
        if path == sys.argv[2]:
            threading.Event().wait()
        return os.listdir(path)

local.os = Os()
uvicorn.Config = functools.partial(uvicorn.Config, port=0, loop=sys.argv[1])
runpy.run_path("server.py", run_name="__main__")
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    """
    The event loop that uvicorn is told to run.
    """
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return str(request.param)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    The working directory: a sweep, and `server.py` as the README shows it.
    """
    monkeypatch.chdir(tmp_path)
    [(code, _)] = blocks("server")
    (tmp_path / "server.py").write_text(code)
    (tmp_path / "sweeps").mkdir()
    return tmp_path


class Server:
    """
    The server's process, and what it has written.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        wait_until(lambda: self._address() or process.poll() is not None)
        found = self._address()
        assert found, self.log
        self.url = found[1]

    @property
    def log(self) -> str:
        return self._log.read_text()

    def _address(self) -> re.Match[str] | None:
        return re.search(r"running on (http://127\.0\.0\.1:\d+)", self.log)

    def stop(self) -> int:
        """
        Send SIGTERM; the exit code, once nothing of it is left.
        """
        self.process.terminate()
        code = self.process.wait(SECONDS)
        with pytest.raises(ProcessLookupError):
            os.killpg(self.process.pid, 0)
        return code


@contextmanager
def serving(home: Path, loop: str, hung: str = "") -> Iterator[Server]:
    log = home / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, loop, hung],
            cwd=home,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Server(process, log)
        finally:
            process.kill()


def messages(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """
    What the server sends; ends with the response.
    """
    for line in response.iter_lines():
        if line:
            field, _, value = line.partition(": ")
            assert "data" == field
            yield json.loads(value)


def message(run: str, step: int) -> dict[str, Any]:
    return {"run": run, "step": step, "path": f"{run}/checkpoint-{step}"}


def in_order(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    By run: no order is promised between two of them.
    """
    return sorted(messages, key=lambda message: str(message["run"]))


def test_every_client_hears_of_every_checkpoint_once(home: Path, loop: str) -> None:
    """
    Two hundred runs commit while requests are answered and one directory hangs.
    """
    save(home / HUNG, 1)
    for run in RUNS[:100]:
        (home / run).mkdir(parents=True)  # The others appear when the server runs.
    expected = [message(run, step) for step, run in enumerate(RUNS, start=1)]
    row = {"waiting_for": "waiting for the next checkpoint"}
    known: dict[str, object] = {run: {"step": n, **row} for n, run in enumerate(RUNS, start=1)}
    known[HUNG] = {"step": None, "waiting_for": "the storage does not answer"}

    with (
        serving(home, loop, HUNG) as server,
        httpx.Client(base_url=server.url) as client,
        client.stream("GET", "/events", timeout=SECONDS) as response,
    ):
        early = messages(response)
        for step, run in enumerate(RUNS, start=1):
            save(home / run, step)
            assert client.get("/runs").is_success
        heard = list(islice(early, 200))
        wait_until(lambda: client.get("/runs").json() == known)
        with client.stream("GET", "/events", timeout=SECONDS) as again:
            late = messages(again)
            heard_later = list(islice(late, 200))
            code = server.stop()
            rest = [*early, *late]

    assert expected == in_order(heard)
    assert heard == heard_later
    assert ([], -signal.SIGTERM) == (rest, code)


def test_sigterm_ends_it_cleanly(home: Path, loop: str) -> None:
    """
    With an event stream, an idle connection and a directory that hangs.
    """
    save(home / RUNS[0], 1)
    save(home / HUNG, 1)

    with (
        serving(home, loop, HUNG) as server,
        httpx.Client(base_url=server.url) as client,
        client.stream("GET", "/events", timeout=SECONDS) as response,
    ):
        events = messages(response)
        first = next(events)
        wait_until(lambda: "does not answer" in client.get("/runs").text)
        code = server.stop()
        rest = list(events)

    assert (message(RUNS[0], 1), []) == (first, rest)
    assert -signal.SIGTERM == code
    assert "Application shutdown complete." in server.log
    assert [] == re.findall(r"Traceback|ERROR|Warning|exceeded", server.log)


def test_sigterm_does_not_wait_for_a_client_that_does_not_read(home: Path, loop: str) -> None:
    """
    Its response never ends; uvicorn gives it up.
    """
    save(home / RUNS[0], 1)
    code = (home / "server.py").read_text()
    # More messages than the sockets between the two hold, and less patience.
    code = code.replace("news.set()", "seen.extend(seen * 500_000)\n        news.set()", 1)
    (home / "server.py").write_text(code.replace("shutdown=5", "shutdown=0.1"))

    with (
        serving(home, loop) as server,
        httpx.Client(base_url=server.url) as client,
        client.stream("GET", "/events", timeout=SECONDS) as response,
    ):
        events = messages(response)
        assert message(RUNS[0], 1) == next(events)
        assert client.get("/runs").is_success
        assert -signal.SIGTERM == server.stop()

    assert "timeout graceful shutdown exceeded" in server.log


class Client:
    """
    A client of the application itself, which takes so many messages and then no more.
    """

    def __init__(self, module: SimpleNamespace, takes: float = math.inf) -> None:
        self.taken: list[dict[str, Any]] = []
        self.body = b""
        self._app = module.app
        self._takes = takes
        self._left = anyio.Event()

    async def get(self, path: str) -> None:
        """
        Ask for *path*; returns when the response has ended.
        """
        asgi = {"version": "3.0", "spec_version": "2.3"}
        request = {"path": path, "method": "GET", "headers": [], "query_string": b""}
        await self._app({"type": "http", "asgi": asgi, **request}, self._receive, self._send)

    def leave(self) -> None:
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, sent: dict[str, Any]) -> None:
        self.body += sent.get("body", b"")
        if sent.get("body", b"").startswith(b"data: "):
            self.taken.append(json.loads(sent["body"][6:]))
            if len(self.taken) >= self._takes:
                await anyio.sleep_forever()


@pytest.fixture
def module(home: Path) -> Iterator[SimpleNamespace]:
    """
    `server.py`, imported.
    """
    names: dict[str, Any] = {"__name__": "server"}
    exec((home / "server.py").read_text(), names)
    module = SimpleNamespace(**names)
    yield module
    module.__dict__.clear()  # Its stream must not outlive the test.
    names.clear()


@NATIVE_LOOPS
async def test_a_client_that_does_not_read_delays_nobody(
    home: Path, module: SimpleNamespace
) -> None:
    """
    Nothing is kept for it, and the others get all.
    """
    slow, quick = Client(module, takes=1), Client(module)

    async with module.lifespan(module.app), anyio.create_task_group() as group:
        group.start_soon(slow.get, "/events")
        group.start_soon(quick.get, "/events")
        for step in range(1, 21):
            save(home / RUNS[0], step)
        await until(lambda: len(quick.taken) == 20)
        group.cancel_scope.cancel()

    assert [message(RUNS[0], step) for step in range(1, 21)] == quick.taken
    assert [message(RUNS[0], 1)] == slow.taken


@NATIVE_LOOPS
async def test_a_long_history_is_no_long_silence(home: Path, module: SimpleNamespace) -> None:
    """
    The event loop is free after each message, also for a client that takes all at once.
    """
    client, turns = Client(module), list[int]()
    module.seen.extend(message(RUNS[0], step) for step in range(1, 101))

    async with anyio.create_task_group() as group:
        group.start_soon(client.get, "/events")
        while len(client.taken) < 100:
            turns.append(len(client.taken))
            await anyio.sleep(0)
        turns.append(len(client.taken))
        group.cancel_scope.cancel()

    assert 1 >= max(after - before for before, after in pairwise(turns))


@NATIVE_LOOPS
async def test_a_client_that_leaves_is_forgotten(home: Path, module: SimpleNamespace) -> None:
    """
    Its response ends while it waits for the next checkpoint.
    """
    client = Client(module)
    save(home / RUNS[0], 1)

    with anyio.fail_after(SECONDS):
        async with module.lifespan(module.app), anyio.create_task_group() as group:
            group.start_soon(client.get, "/events")
            await until(lambda: client.taken)
            client.leave()

    assert [message(RUNS[0], 1)] == client.taken


@NATIVE_LOOPS
async def test_a_run_of_any_name_is_answered(home: Path, module: SimpleNamespace) -> None:
    """
    One directory whose name is not UTF-8 must not take the answer away from the others.
    """
    run = os.fsdecode(b"sweeps/\xff/checkpoints")
    events, runs = Client(module), Client(module)
    save(home / run, 1)

    async with module.lifespan(module.app), anyio.create_task_group() as group:
        group.start_soon(events.get, "/events")
        await until(lambda: events.taken)
        await runs.get("/runs")
        group.cancel_scope.cancel()

    assert [message(run, 1)] == events.taken
    assert 1 == json.loads(runs.body)[run]["step"]
