"""The processes that `server.py` talks with: the server, its trainers, and those who listen."""

from __future__ import annotations

import importlib
import json
import os
import re
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import httpx
import uvicorn

README = Path(__file__).parent.parent / "README.md"
BURST = 1.0  # seconds in which every run commits
PATIENCE = 60.0  # seconds until a process that says nothing is given up


def run_of(number: int) -> str:
    """Where a run's checkpoints are, below the server's directory."""
    return f"sweeps/run-{number:04}/checkpoints"


def _serve(loop: str, hung: str) -> None:
    """Be the server of this directory; its address goes to stderr, as uvicorn writes it."""
    found = re.search(r"<!-- test: server -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    Path("server.py").write_text(found[1])

    def listdir(path: str) -> list[str]:
        if path == hung:
            threading.Event().wait()
        return os.listdir(path)

    local = importlib.import_module("ckptstream._stores._local")
    stub = mock.Mock(wraps=os, listdir=listdir)
    config = partial(uvicorn.Config, port=0, loop=loop)
    with mock.patch.object(local, "os", stub), mock.patch.object(uvicorn, "Config", config):
        runpy.run_path("server.py", run_name="__main__")


def _train() -> None:
    """Be the trainers: `prepare` or `commit`, a directory, how many runs, and which step."""
    for line in sys.stdin:
        what, home, runs, step = line.split()
        began, count = time.monotonic(), int(runs)
        for number in range(count):
            final = f"{home}/{run_of(number)}/{step}"
            if what == "prepare":
                _prepare(f"{final}.orbax-checkpoint-tmp")
                continue
            time.sleep(max(0.0, began + BURST * number / count - time.monotonic()))
            os.rename(f"{final}.orbax-checkpoint-tmp", final)
        print(time.monotonic() - began, flush=True)


def _prepare(temporary: str) -> None:
    os.makedirs(f"{temporary}/default")
    now = time.time_ns()
    metadata = {"metrics": {}, "init_timestamp_nsecs": now, "commit_timestamp_nsecs": now + 1}
    Path(f"{temporary}/_CHECKPOINT_METADATA").write_text(json.dumps(metadata))
    for name in ("default/_METADATA", "default/manifest.ocdbt", "commit_success.txt"):
        Path(f"{temporary}/{name}").touch()


def _listen(url: str, runs: int) -> None:
    """Be a client of `/events`; says so each time it has heard of as many as there are runs."""
    heard = set[str]()
    with httpx.stream("GET", f"{url}/events", timeout=None) as response:
        for line in response.iter_lines():
            if line:
                path = json.loads(line.removeprefix("data: "))["path"]
                assert path not in heard, f"heard of {path} twice"
                heard.add(path)
                if len(heard) % runs == 0:
                    print(len(heard), flush=True)


class Process:
    """One of the processes above, and what it writes."""

    def __init__(self, *arguments: str, log: Path, cwd: str | None = None) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, os.path.abspath(__file__), *arguments],
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL if arguments[0] == "serve" else subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ask(self, *words: object) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)

    def answer(self) -> str:
        """Wait for a line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a process has ended:\n{self._log.read_text()[-2000:]}")
        return line

    def queued(self) -> float:
        """How long its main thread stood in line for a processor, by proc_pid_schedstat(5)."""
        return queued(self._process.pid)

    def address(self) -> str:
        """Wait until uvicorn has written it."""
        pattern = re.compile(r"running on (http://\S+)")
        until(lambda: pattern.search(self._log.read_text()), f"no server: {self._log}")
        found = pattern.search(self._log.read_text())
        assert found is not None
        return found[1]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def queued(process: int) -> float:
    """How long a process stood in line for a processor, in seconds."""
    try:
        with open(f"/proc/{process}/schedstat", "rb", buffering=0) as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


def until(condition: Callable[[], object], otherwise: str) -> None:
    """Wait for it, or end with those words."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(otherwise)
        time.sleep(0.01)


def main() -> None:
    """Be one of them."""
    role, *arguments = sys.argv[1:]
    if role == "serve":
        _serve(*arguments)
    elif role == "listen":
        _listen(arguments[0], int(arguments[1]))
    else:
        _train()


if __name__ == "__main__":
    main()
