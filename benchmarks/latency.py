"""
How long it takes from a checkpoint's commit to the body of the loop that waits for it.

This process is the writer. It commits as Orbax does: a whole `N.orbax-checkpoint-tmp` is renamed
to `N` (for TensorFlow: a new state file is renamed to `checkpoint`). Every peer waits in a process
of its own, all of them from the beginning to the end, each in a directory of its own.

The clock is CLOCK_MONOTONIC, which all processes share. It starts right before `os.rename`, and
stops at the first statement in the body of the loop; for bare inotify, right after `os.read`.
A checkpoint is prepared well before its commit, as in a training: the peers are at rest again.

Peers that wait for events take turns, commit by commit, in random order. Peers that ask once in a
while get fewer commits, at moments spread evenly over the interval.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio
from _common import MILLISECOND, medians, ratio, show_goal, show_machine, show_table, spread

import ckptstream

WARM_UP = 5  # commits that are not counted
PATIENCE = 30.0  # seconds until a peer that says nothing is given up
MOVED_TO = 0x80  # inotify(7)
_EVENT = struct.Struct("iIII")

# What the peers do, each in its own process.


def _report(step: int | None, now: int) -> None:
    os.write(1, b"%d %d\n" % (-1 if step is None else step, now))


def _watch(directory: str) -> int:
    from inotify_simple import INotify

    inotify = INotify(closefd=False)
    inotify.add_watch(directory, MOVED_TO)
    return inotify.fileno()


def _moved(data: bytes, now: int) -> None:
    offset = 0
    while offset < len(data):
        _, _, _, length = _EVENT.unpack_from(data, offset)
        offset += _EVENT.size + length
        _report(int(data[offset - length : offset].rstrip(b"\0")), now)


def _inotify(directory: str) -> None:
    descriptor = _watch(directory)
    while True:
        data = os.read(descriptor, 65536)
        now = time.monotonic_ns()
        _moved(data, now)


async def _add_reader(directory: str) -> None:
    descriptor = _watch(directory)

    def readable() -> None:
        data = os.read(descriptor, 65536)
        now = time.monotonic_ns()
        _moved(data, now)

    asyncio.get_running_loop().add_reader(descriptor, readable)
    await asyncio.Event().wait()


async def _follow(directory: str, watcher: str = "auto") -> None:
    async for ckpt in ckptstream.follow(directory, watcher=watcher):
        now = time.monotonic_ns()
        _report(ckpt.step, now)


def _on(backend: str, uvloop: bool = False, watcher: str = "auto") -> Callable[[str], None]:
    options = {"use_uvloop": uvloop} if backend == "asyncio" else {}
    return lambda directory: anyio.run(
        _follow, directory, watcher, backend=backend, backend_options=options
    )


async def _awatch(directory: str) -> None:
    async for changes in importlib.import_module("watchfiles").awatch(directory):
        now = time.monotonic_ns()
        names = {os.path.basename(path) for _, path in changes if os.path.dirname(path) == directory}
        for name in names:
            if name.isdecimal():
                _report(int(name), now)


def _tensorflow(directory: str) -> None:
    for path in importlib.import_module("tensorflow").train.checkpoints_iterator(directory):
        now = time.monotonic_ns()
        _report(int(path.rpartition("-")[2]), now)


def _orbax(directory: str) -> None:
    utils = importlib.import_module("orbax.checkpoint.checkpoint_utils")
    for step in utils.checkpoints_iterator(directory):
        now = time.monotonic_ns()
        _report(step, now)


# What the writer does.


def _prepare_orbax(directory: str, step: int) -> tuple[str, str]:
    temporary = os.path.join(directory, f"{step}.orbax-checkpoint-tmp")
    now = time.time_ns()
    stamps = {"init_timestamp_nsecs": now, "commit_timestamp_nsecs": now + 1}
    files = {"_CHECKPOINT_METADATA": json.dumps({"metrics": {}, **stamps}), "commit_success.txt": ""}
    items = {"default/_METADATA": "{}", "default/manifest.ocdbt": "manifest"}
    os.makedirs(os.path.join(temporary, "default"))
    for name, text in {**items, **files}.items():
        with open(os.path.join(temporary, name), "w") as file:
            file.write(text)
    return temporary, os.path.join(directory, str(step))


def _prepare_tensorflow(directory: str, step: int) -> tuple[str, str]:
    temporary = os.path.join(directory, "checkpoint.tmp")
    state = f'model_checkpoint_path: "ckpt-{step}"\nall_model_checkpoint_paths: "ckpt-{step}"\n'
    for name in (f"ckpt-{step}.data-00000-of-00001", f"ckpt-{step}.index"):
        with open(os.path.join(directory, name), "wb") as file:
            file.write(bytes(64))
    with open(temporary, "w") as file:
        file.write(state)
    return temporary, os.path.join(directory, "checkpoint")


@dataclass
class Peer:
    """One way to wait for checkpoints; *needs* is what must be installed for it."""

    title: str
    wait: Callable[[str], None]
    needs: str = "anyio"
    polls: bool = False
    prepare: Callable[[str, int], tuple[str, str]] = _prepare_orbax
    rounds: list[list[float]] = field(default_factory=list[list[float]])
    directory: str = ""
    step: int = 0
    heard: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    temporary: str = ""
    final: str = ""

    def start(self, root: str, number: int) -> None:
        """Begin to wait, in another process; what it logs goes to a file beside its directory."""
        self.directory = os.path.join(root, str(number))
        os.mkdir(self.directory)
        command = [sys.executable, __file__, "--wait", str(number), self.directory]
        with open(f"{self.directory}.log", "wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)

    def ready(self) -> None:
        """Commit until it answers: what came before it waited is found by some, lost by others."""
        until = time.monotonic() + 2 * PATIENCE
        while self.step < WARM_UP or not self._answers(1.2):
            self.next()
            self.commit()
            if time.monotonic() > until:
                raise SystemExit(f"{self.title} does not answer: see {self.directory}.log")
        while self._answers(0.5):
            pass

    def next(self) -> None:
        """Prepare the next checkpoint."""
        self.step += 1
        self.temporary, self.final = self.prepare(self.directory, self.step)

    def commit(self) -> int:
        """Commit it; returns when."""
        began = time.monotonic_ns()
        os.rename(self.temporary, self.final)
        return began

    def latency(self, began: int) -> float:
        """Seconds until it heard of the checkpoint that was committed at *began*."""
        while True:
            if not self._select(PATIENCE):
                raise SystemExit(f"{self.title} has lost {self.final}: see {self.directory}.log")
            step, now = self._read()
            if step == self.step:
                self.heard = now / 1e9
                return (now - began) / 1e9

    def _answers(self, timeout: float) -> bool:
        return self._select(timeout) and self._read() is not None

    def _select(self, timeout: float) -> bool:
        assert self.process is not None
        return bool(select.select([self.process.stdout], [], [], timeout)[0])

    def _read(self) -> tuple[int, int]:
        assert self.process is not None and self.process.stdout is not None
        # Byte by byte: what a buffer holds is hidden from select().
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.process.stdout.fileno(), 1)
            if not byte:
                raise SystemExit(f"{self.title} has ended: see {self.directory}.log")
            line += byte
        step, now = line.split()
        return int(step), int(now)


def _peers() -> list[Peer]:
    return [
        Peer("bare inotify, os.read", _inotify),
        Peer("bare inotify, asyncio add_reader", lambda path: asyncio.run(_add_reader(path))),
        Peer("ckptstream, asyncio", _on("asyncio")),
        Peer("ckptstream, uvloop", _on("asyncio", uvloop=True), "uvloop"),
        Peer("ckptstream, trio", _on("trio"), "trio"),
        Peer("ckptstream, polling", _on("asyncio", watcher="poll"), polls=True),
        Peer("watchfiles.awatch", lambda p: asyncio.run(_awatch(p)), "watchfiles", polls=True),
        Peer("tf.train.checkpoints_iterator", _tensorflow, "tensorflow", True, _prepare_tensorflow),
        Peer("orbax checkpoints_iterator", _orbax, "orbax.checkpoint", True),
    ]


def _installed(peer: Peer) -> bool:
    try:
        return importlib.util.find_spec(peer.needs) is not None
    except ModuleNotFoundError:
        return False


def _round_of_events(peers: Sequence[Peer], commits: int) -> None:
    for peer in peers:
        peer.rounds.append([])
    for _ in range(commits):
        for peer in random.sample(peers, len(peers)):
            peer.next()
            time.sleep(random.uniform(0.01, 0.03))
            peer.rounds[-1].append(peer.latency(peer.commit()))


def _round_of_polls(peers: Sequence[Peer], commits: int) -> None:
    start = random.random()
    for peer in peers:
        peer.rounds.append([])
    for count in range(commits):
        for peer in peers:
            peer.next()
        # All poll once a second (watchfiles every 50 ms) since they last heard of something.
        earliest, phase = time.monotonic() + 0.5, (start + count / commits) % 1
        moments = [(p.heard + phase + (earliest - p.heard) // 1 + 1, p) for p in peers]
        began = list[int]()
        for moment, peer in sorted(moments, key=lambda item: item[0]):
            time.sleep(max(0.0, moment - time.monotonic()))
            began.append(peer.commit())
        for (_, peer), then in zip(sorted(moments, key=lambda item: item[0]), began, strict=True):
            peer.rounds[-1].append(peer.latency(then))
