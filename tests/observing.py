"""
What the kernel and the interpreter say of this process, and how tests wait for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from ckptstream._cursor._cursor import _files

SECONDS = 50.0  # a deadline for what takes milliseconds; only a failure ever waits so long

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

Backend = tuple[str, dict[str, Any]]

# For tests that run event loops of their own, one after the other.
BACKENDS: dict[str, Backend] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
EVERY_LOOP = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
NATIVE_LOOPS = pytest.mark.parametrize(
    "anyio_backend",
    ["asyncio", pytest.param("uvloop", marks=pytest.mark.thorough)],
    indirect=True,
)


def run_with_limit(limit: str, number: int, program: str, directory: Path) -> list[str]:
    """
    What a program writes in a user namespace of its own, where the kernel gives no more inotify
    *limit* ("watches", "instances") than *number*; skips the test where there are no namespaces.
    """
    inside = f'echo {number} > /proc/sys/user/max_inotify_{limit} && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", inside, "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    command += [sys.executable, "-W", "error", "-c", program, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ("", 0) == (done.stderr, done.returncode)
    return done.stdout.splitlines()


def open_cursors() -> list[str]:
    """
    The cursor files that this process has open.
    """
    return [shared.file.path for shared in _files.values() if shared.file is not None]


def inotify_descriptors() -> set[int]:
    """
    The inotify instances that this process has open.
    """
    found = set[int]()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target in {"anon_inode:inotify", "anon_inode:[inotify]"}:
            found.add(int(name))
    return found


def watched(descriptor: int) -> list[int]:
    """
    The inodes that an inotify instance watches, in order, by proc_pid_fdinfo(5).
    """
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    words = (line.split() for line in lines if line.startswith("inotify"))
    return sorted(int(word[4:], 16) for line in words for word in line if word.startswith("ino:"))


def inodes(*directories: Path) -> list[int]:
    """
    The same for directories, to compare with.
    """
    return sorted(directory.stat().st_ino for directory in directories)


def look_threads() -> list[threading.Thread]:
    """
    The package's own threads that live now.
    """
    return [thread for thread in threading.enumerate() if thread.name == "ckptstream-look"]


async def until(condition: Callable[[], object]) -> None:
    """
    Wait for what nobody announces.
    """
    with anyio.fail_after(SECONDS):
        while not condition():
            await anyio.sleep(0.002)


def wait_until(condition: Callable[[], object]) -> None:
    """
    The same where no event loop runs.
    """
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def mark_done(run: Path, step: int) -> str:
    """
    Finish a checkpoint of the layout `step_{step}/DONE` in one instant; its path.
    """
    hidden = run / f".being-written-{step}"
    hidden.mkdir(parents=True)
    (hidden / "DONE").touch()
    final = run / f"step_{step}"
    hidden.rename(final)
    return str(final)


class Told:
    """
    A listener that remembers what it was told.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[str, bool]] = []
        self.everything = 0

    def entry_changed(self, name: str, arrived: bool) -> None:
        self.entries.append((name, arrived))

    def all_changed(self) -> None:
        self.everything += 1


class Blocked:
    """
    Storage that does not answer: `os.listdir` of these directories hangs until `release`.

    Only the package's own listing of a run is replaced; `asked` says for how many it has begun.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directories = set[str]()
        self.asked: list[str] = []
        self._released = threading.Event()

        def listdir(path: str) -> list[str]:
            if path in self.directories:
                self.asked.append(path)
                self._released.wait()
            return os.listdir(path)

        monkeypatch.setattr("ckptstream._stores._local.os", _Os(listdir))

    def hang(self, *directories: Path) -> None:
        self.directories.update(map(str, directories))

    def release(self) -> None:
        self.directories.clear()
        self._released.set()


class _Os:
    """
    The module `os` with another `listdir`, for one module alone.
    """

    def __init__(self, listdir: Callable[[str], list[str]]) -> None:
        self.listdir = listdir

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)
