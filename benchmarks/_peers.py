"""
Ways to wait for checkpoints, each run in a process of its own by `latency.py`.

Every one calls `_report` with the step and with the time at the first statement of its loop's body;
bare inotify with the time right after `os.read`.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import struct
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import anyio
from _common import is_installed
from inotify_simple import INotify

import ckptstream

_MOVED_TO = 0x80  # inotify(7)
_EVENT = struct.Struct("iIII")

Kind = Literal["orbax", "tensorflow"]


class Waiting(NamedTuple):
    """
    One way to wait.

    Attributes:
        wait: Waits in a directory for ever.
        needs: The module that must be installed for it.
        asks: Whether it asks once in a while, so that its latency depends on the moment.
        writes: Whose checkpoints it understands.
    """

    wait: Callable[[str], None]
    needs: str = "anyio"
    asks: bool = False
    writes: Kind = "orbax"

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        return is_installed(self.needs)


def _report(step: int | None, now: int) -> None:
    os.write(1, b"%d %d\n" % (-1 if step is None else step, now))


def _watch(directory: str) -> int:
    inotify = INotify(closefd=False)
    inotify.add_watch(directory, _MOVED_TO)
    return inotify.fileno()


def _report_events(data: bytes, now: int) -> None:
    end = 0
    while end < len(data):
        _, _, _, length = _EVENT.unpack_from(data, end)
        begin = end + _EVENT.size
        end = begin + length
        _report(int(data[begin:end].rstrip(b"\0")), now)


def _inotify(directory: str) -> None:
    descriptor = _watch(directory)
    while True:
        data = os.read(descriptor, 65536)
        now = time.monotonic_ns()
        _report_events(data, now)


async def _read_when_told(directory: str) -> None:
    descriptor = _watch(directory)

    def readable() -> None:
        data = os.read(descriptor, 65536)
        now = time.monotonic_ns()
        _report_events(data, now)

    asyncio.get_running_loop().add_reader(descriptor, readable)
    await asyncio.Event().wait()


def _add_reader(directory: str) -> None:
    asyncio.run(_read_when_told(directory))


async def _follow(directory: str, watcher: Literal["auto", "poll"]) -> None:
    async for ckpt in ckptstream.follow(directory, watcher=watcher):
        now = time.monotonic_ns()
        _report(ckpt.step, now)


def _asyncio(directory: str) -> None:
    asyncio.run(_follow(directory, "auto"))


def _uvloop(directory: str) -> None:
    anyio.run(_follow, directory, "auto", backend_options={"use_uvloop": True})


def _trio(directory: str) -> None:
    anyio.run(_follow, directory, "auto", backend="trio")


def _polling(directory: str) -> None:
    asyncio.run(_follow(directory, "poll"))


async def _awatch(directory: str) -> None:
    async for changes in importlib.import_module("watchfiles").awatch(directory):
        now = time.monotonic_ns()
        for name in {os.path.relpath(path, directory) for _, path in changes}:
            if name.isdecimal():
                _report(int(name), now)


def _watchfiles(directory: str) -> None:
    asyncio.run(_awatch(directory))


def _tensorflow(directory: str) -> None:
    for path in importlib.import_module("tensorflow").train.checkpoints_iterator(directory):
        now = time.monotonic_ns()
        _report(int(path.rpartition("-")[2]), now)


def _orbax(directory: str) -> None:
    utils = importlib.import_module("orbax.checkpoint.checkpoint_utils")
    for step in utils.checkpoints_iterator(directory):
        now = time.monotonic_ns()
        _report(step, now)


FLOOR = "bare inotify, os.read"
WATCHFILES = "watchfiles.awatch"
TENSORFLOW = "tf.train.checkpoints_iterator"
OURS = ("ckptstream, asyncio", "ckptstream, uvloop", "ckptstream, trio")

WAITINGS: dict[str, Waiting] = {
    FLOOR: Waiting(_inotify),
    "bare inotify, asyncio add_reader": Waiting(_add_reader),
    OURS[0]: Waiting(_asyncio),
    OURS[1]: Waiting(_uvloop, "uvloop"),
    OURS[2]: Waiting(_trio, "trio"),
    "ckptstream, watcher='poll'": Waiting(_polling, asks=True),
    WATCHFILES: Waiting(_watchfiles, "watchfiles", asks=True),
    TENSORFLOW: Waiting(_tensorflow, "tensorflow", asks=True, writes="tensorflow"),
    "orbax checkpoints_iterator": Waiting(_orbax, "orbax.checkpoint", asks=True),
}
