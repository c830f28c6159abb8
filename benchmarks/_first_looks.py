"""Looks of a real stream, each of them timed where it is made: in its thread."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, NamedTuple

from _first_trees import Tree

import ckptstream

_REST = 0.03  # seconds after which a stream has nothing left to do before a commit
_PATIENCE = 120.0


class Timed(NamedTuple):
    """One look: its processor time, whether it went over the whole directory, what it found."""

    seconds: float
    full: bool
    found: int


@contextmanager
def timed_looks() -> Iterator[list[Timed]]:
    """Every look that a stream makes meanwhile."""
    module = importlib.import_module("ckptstream._stream._run")
    looks, look = list[Timed](), module.look

    def timed(request: Any, alive: Callable[[], None]) -> Any:
        began = time.thread_time()
        result = look(request, alive)
        looks.append(Timed(time.thread_time() - began, result.full, len(result.changed)))
        return result

    setattr(module, "look", timed)  # noqa: B010  # a type checker sees a function there
    try:
        yield looks
    finally:
        setattr(module, "look", look)  # noqa: B010


class Calls:
    """
    What was asked of the system.

    Attributes:
        counts: How often, by the name of the call; and for how many bytes.
    """

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self._made = list[tuple[Callable[..., Any], tuple[Any, ...]]]()
        self._reads: dict[int, list[tuple[int, int]]] = {}  # what is read of each open file

    def note(self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Make a call, and note it."""
        self.counts[name] += 1
        if name == "pread":
            self._reads[arguments[0]].append(arguments[1:])
        elif name != "open":
            self._made.append((call, arguments))
        result = call(*arguments)
        if name == "open":
            self._reads[result] = []
            self._made.append((_read, (*arguments, self._reads[result])))
        self.counts["bytes"] += len(result) if name == "pread" else 0
        return result

    def repeat(self) -> float:
        """Make the same calls once more, and nothing else: processor time."""
        began = time.thread_time()
        for call, arguments in self._made:
            with suppress(OSError):
                call(*arguments)
        return time.thread_time() - began


_open, _pread, _close = os.open, os.pread, os.close


def _read(path: str, flags: int, parts: Sequence[tuple[int, int]]) -> None:
    file = _open(path, flags)
    for size, offset in parts:
        _pread(file, size, offset)
    _close(file)


@contextmanager
def counted_calls() -> Iterator[Calls]:
    """What the package asks the system for meanwhile."""
    calls, names = Calls(), ("stat", "listdir", "open", "readlink", "pread")
    before = {name: getattr(os, name) for name in names}

    def noting(name: str) -> Callable[..., Any]:
        return lambda *arguments: calls.note(name, before[name], arguments)

    for name in names:
        setattr(os, name, noting(name))
    try:
        yield calls
    finally:
        for name, function in before.items():
            setattr(os, name, function)


def scan(run: str) -> float:
    """The floor: processor time of `os.scandir` over the tree, which gives names and kinds."""
    began = time.thread_time()
    rest = [run]
    while rest:
        with os.scandir(rest.pop()) as entries:
            rest += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return time.thread_time() - began


def list_run(run: str) -> float:
    """The floor of polling: processor time of `os.listdir`."""
    began = time.thread_time()
    os.listdir(run)
    return time.thread_time() - began


class First(NamedTuple):
    """
    What it took to know all that is there.

    Attributes:
        first: Processor time of the first look.
        others: Of those that had to follow it, where only time proves something.
        complete: Seconds until the stream knew all of it.
    """

    first: float
    others: float
    complete: float


async def first_look(run: str, layout: str) -> First:
    """Look at what is there, to the end; at least the settle interval where only time proves it."""
    gc.collect()
    with timed_looks() as looks:
        began = time.perf_counter()
        async for ckpt in ckptstream.follow(run, layout=layout, skip_existing=True, timeout=0):
            raise AssertionError(ckpt)
        ended = time.perf_counter()
    first, *others = looks
    return First(first.seconds, sum(look.seconds for look in others), ended - began)


class Later(NamedTuple):
    """
    After one commit.

    Attributes:
        look: Processor time of the longest look that it caused.
        looks: Of all of them.
        heard: Seconds from the commit to the body of the loop.
        full: Whether one of them went over the whole directory.
    """

    look: float
    looks: float
    heard: float
    full: bool


async def later_looks(
    tree: Tree, layout: str, watcher: Literal["auto", "poll"], commits: int
) -> list[Later]:
    """A commit now and then, while somebody waits for it."""
    results = list[Later]()
    polling = 0.02 if watcher == "poll" else None
    stream = ckptstream.follow(
        tree.run, layout=layout, skip_existing=True, watcher=watcher, poll_interval=polling
    )
    with timed_looks() as looks:
        for number in range(commits + 2):  # the first two are not counted
            commit = tree.prepare()
            waiting = asyncio.create_task(anext(stream))
            await _idle(looks, stream, watcher, max(_REST, tree.count * _REST / 100))
            gc.collect()
            await asyncio.sleep(_REST)
            looks.clear()
            began = time.perf_counter()
            step = commit()
            heard = await asyncio.wait_for(waiting, _PATIENCE)
            ended = time.perf_counter()
            assert step == heard.step, (step, heard)
            if number > 1:
                results.append(_later(looks, watcher, ended - began))
    return results


def _later(looks: list[Timed], watcher: str, heard: float) -> Later:
    # Where it polls, others come before the one that finds it.
    own = [look for look in looks if look.found] if watcher == "poll" else looks
    seconds = [look.seconds for look in own]
    return Later(max(seconds), sum(seconds), heard, any(look.full for look in own))


async def _idle(
    looks: list[Timed], stream: ckptstream.CheckpointStream, watcher: str, rest: float
) -> None:
    """Wait until the stream has nothing left to do but to wait."""
    until, seen = time.monotonic() + _PATIENCE, -1
    while (
        not looks
        or stream.status().runs[0].unfinished
        or (watcher == "auto" and seen != len(looks))
    ):
        assert time.monotonic() < until, str(stream.status())[:1000]
        seen = len(looks)
        # A status that names ten thousand unfinished ones takes the interpreter from the look.
        await asyncio.sleep(rest)
