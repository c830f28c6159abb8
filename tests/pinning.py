"""
Checkpoints to pin, and what is left of pins on the disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from observing import until

import ckptstream.sync
from ckptstream import Checkpoint
from ckptstream._pins._hold import DIRECTORY
from ckptstream.testing import save

Contents = dict[str, bytes]


def checkpoint_in(run: Path, layout: str = "hf", step: int = 1, shards: int = 1) -> Checkpoint:
    """
    A finished checkpoint, as a stream delivers it.
    """
    save(run, step, layout, shards=shards)
    found = ckptstream.sync.follow(run, layout=layout, timeout=0)
    return next(checkpoint for checkpoint in found if checkpoint.step == step)


def files_of(checkpoint: Checkpoint) -> list[str]:
    """
    All of its files, in order: below its directory, or those with its prefix.
    """
    if os.path.isdir(checkpoint.path):
        walk = os.walk(checkpoint.path)
        return sorted(os.path.join(where, name) for where, _, names in walk for name in names)
    names = os.listdir(checkpoint.run)
    paths = [os.path.join(checkpoint.run, name) for name in names]
    return sorted(path for path in paths if path.startswith(checkpoint.path))


def contents(checkpoint: Checkpoint) -> Contents:
    """
    What is in each file, by what follows the run's directory in its path.
    """
    paths = files_of(checkpoint)
    return {os.path.relpath(path, checkpoint.run): Path(path).read_bytes() for path in paths}


def delete(checkpoint: Checkpoint) -> None:
    """
    What a trainer does to it in the end.
    """
    if os.path.isdir(checkpoint.path):
        shutil.rmtree(checkpoint.path)
    else:
        for path in files_of(checkpoint):
            os.unlink(path)


def left(run: Path) -> list[str]:
    """
    What lies in the directory of the pins, if it is there.
    """
    root = run.resolve().parent / DIRECTORY
    return sorted(os.listdir(root)) if root.exists() else []


async def no_pins_left(run: Path) -> None:
    """
    Wait until the threads have removed all; fails if they do not.
    """
    await until(lambda: not (run.resolve().parent / DIRECTORY).exists())


@contextmanager
def at_link(number: int, call: Callable[[], object]) -> Iterator[list[str]]:
    """
    Calls something right before the n-th call of `os.link`, counted from 1; gives what was linked.
    """
    link, sources = os.link, list[str]()

    def counted(source: str, target: str) -> None:
        sources.append(source)
        if len(sources) == number:
            call()
        link(source, target)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "link", counted)
        yield sources
