"""
Every file of every framework's checkpoints, damaged in every way, through the public stream.

Whatever a pointer, a marker or a data file holds: no crash, few bytes read, no path outside.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from saves import SAVES, Save
from trio.testing import MockClock

from ckptstream import follow, latest_checkpoint
from ckptstream.layouts import pointer_layouts, resolve
from ckptstream.testing import ManualWatcher, save

GIGABYTE = 2**30
AT_MOST = 40 * 2**20  # bytes read in one look at one checkpoint, of files of any size
SIMULATED = ("hf", "orbax", "tensorflow")
EVERY: list[Save | str] = [*SAVES, *SIMULATED]
each_one = pytest.mark.parametrize("one", EVERY, ids=str)

WRONG_SHAPE = (
    b'{"weight_map": ["a"], "global_step": [5], "step": {"a": 5}, "timestamp": 5, "metadata": 1,'
    b' "commit_timestamp_nsecs": true, "checkpoint_results": {"a": [[]]},'
    b' "latest_checkpoint_result": [{"checkpoint_dir_name": {}}]}'
)
LEADS_OUT = (
    b'{"weight_map": {"a": "../outside/a", "b": "/outside/a", "c": ".."}, "step": 5,'
    b' "global_step": 5, "latest_checkpoint_result": {"checkpoint_dir_name": "../outside/%b"},'
    b' "checkpoint_results": [{"checkpoint_dir_name": "%b/%b"}, {"checkpoint_dir_name": ".."}]}'
)
DAMAGES: dict[str, bytes | Callable[[bytes, str, Path], bytes]] = {
    "empty": b"",
    "half": lambda old, name, run: old[: len(old) // 2],
    "binary": bytes(range(256)) * 16,
    "null": b"null",
    "a list": b"[]",
    "a number": b"9" * 5000,
    "nested": b"[" * 100_000,
    "no text": b"\xff\xfe{\0",
    "wrong shape": WRONG_SHAPE,
    "up": lambda old, name, run: f"../outside/{name}".encode(),
    "absolute": lambda old, name, run: f"{run.parent}/outside/{name}".encode(),
    "parent": b"..",
    "listed outside": lambda old, name, run: (
        LEADS_OUT % (name.encode(), bytes(run.parent / "outside"), name.encode())
    ),
    "proto text": lambda old, name, run: (
        rb'model_checkpoint_path: "\056\x2e/outside/%b"' % name.encode()
        + b"\nall_model_checkpoint_paths: '%b/%b'\n"
        % (bytes(run.parent / "outside"), name.encode())
        + rb'all_model_checkpoint_paths: "\0\777\x\q\"'
    ),
}
SPARSE = ("before", "after", "around")  # of which parts of a gigabyte the content is


class Read:
    """
    How many bytes were read of the files in a directory.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        pread, read = os.pread, os.read

        def counted_pread(file: int, size: int, offset: int) -> bytes:
            content = pread(file, size, offset)
            self.bytes += len(content)
            return content

        def counted_read(file: int, size: int) -> bytes:
            content = read(file, size)
            self.bytes += len(content)
            return content

        monkeypatch.setattr(os, "pread", counted_pread)
        monkeypatch.setattr(os, "read", counted_read)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """
    Counts the bytes from now on.
    """
    return Read(monkeypatch)


def make(root: Path, one: Save | str) -> tuple[str, str]:
    """
    Save a checkpoint; its name, and whose it is.
    """
    root.mkdir()
    if isinstance(one, Save):
        one.done(root)
        return one.name, one.layout
    return os.path.basename(save(root, step=5, layout=one)), one


def files(run: Path) -> list[Path]:
    """
    One file of a run of each kind: others differ in their digits alone.
    """
    found = sorted(path for path in run.rglob("*") if path.is_file())
    return list({re.sub("[0-9]+", "0", str(path)): path for path in found}.values())


def check(run: Path, layout: str, read: Read, *, latest: bool = False) -> None:
    """
    Follow the run to the end: what comes lies in it and is there, and little was read for it.
    """
    watcher, before = ManualWatcher(), read.bytes

    async def all_of_it() -> list[str | None]:
        stream = follow(run, layout=layout, watcher=watcher, timeout=0)
        found: list[str | None] = [ckpt.path async for ckpt in stream]
        assert str(stream.status())
        if latest:
            found.append(await latest_checkpoint(run, layout=layout, watcher=watcher))
        return found

    clock = MockClock(autojump_threshold=0)
    for path in anyio.run(all_of_it, backend="trio", backend_options={"clock": clock}):
        if path is not None:
            assert str(run) == os.path.dirname(path)
            assert os.path.basename(path) not in {"", ".", ".."}
            members = map(resolve(layout).match, os.listdir(run))
            assert os.path.basename(path) in {member[0] for member in members if member}
    assert read.bytes - before <= watcher.looks * AT_MOST


def damaged(run: Path, name: str) -> Iterator[str]:
    """
    Damage each file in each way, and mend it again.
    """
    for file in files(run):
        old = file.read_bytes()
        for words, damage in DAMAGES.items():
            file.write_bytes(damage if isinstance(damage, bytes) else damage(old, name, run))
            yield f"{file.name}: {words}"
        file.write_bytes(old)


@each_one
def test_damaged(tmp_path: Path, read: Read, one: Save | str) -> None:
    """
    Truncated, empty, binary, of a wrong shape, leading out: never a crash, never a path outside.
    """
    run = tmp_path / "run"
    make(tmp_path / "outside", one)
    name, own = make(run, one)
    for number, _ in enumerate(damaged(run, name)):
        check(run, own, read)
        if (number + number // len(DAMAGES)) % 2:
            check(run, "auto", read)


@each_one
@pytest.mark.parametrize("where", SPARSE)
def test_a_gigabyte(tmp_path: Path, read: Read, one: Save | str, where: str) -> None:
    """
    However large each of the files is, and wherever its content, little of it is read.
    """
    run = tmp_path / "run"
    _, own = make(run, one)
    for file in files(run):
        old = file.read_bytes()
        with file.open("r+b") as opened:
            opened.truncate(0 if where == "after" else len(old))
            opened.truncate(GIGABYTE)
            if where != "before":
                opened.seek(-len(old), os.SEEK_END)
                opened.write(old)
        for layout in (own, "auto"):
            check(run, layout, read)
        file.write_bytes(old)


@each_one
def test_anything(tmp_path: Path, read: Read, one: Save | str) -> None:
    """
    Any bytes in any of its files.
    """
    run = tmp_path / "run"
    _, own = make(run, one)

    @settings(max_examples=10)
    @given(file=st.sampled_from(files(run)), content=st.binary(), keep=st.booleans())
    def anything(file: Path, content: bytes, keep: bool) -> None:
        old = file.read_bytes()
        file.write_bytes(content + old if keep else content)
        for layout in (own, "auto"):
            check(run, layout, read)
        file.write_bytes(old)

    anything()


@each_one
def test_links_that_lead_out(tmp_path: Path, read: Read, one: Save | str) -> None:
    """
    A pointer may be a link to anywhere, or to itself, and so may a file.
    """
    run = tmp_path / "run"
    name, own = make(run, one)
    pointers = {layout.pointer for layout in pointer_layouts(resolve(own))}
    targets = [f"../outside/{name}", str(tmp_path / "outside" / name), "..", ".", "/dev/zero", name]
    for pointer in sorted(pointers | {file.name for file in files(run) if file.parent == run}):
        kept = shutil.move(run / pointer, tmp_path / "kept") if (run / pointer).exists() else None
        for target in [*targets, pointer]:
            (run / pointer).symlink_to(target)
            check(run, own, read, latest=True)
            (run / pointer).unlink()
        if kept is not None:
            shutil.move(kept, run / pointer)


@pytest.mark.parametrize("exists", [True, False])
def test_absolute_paths_of_tensorflow_1(tmp_path: Path, read: Read, exists: bool) -> None:
    """
    `Saver` writes absolute paths: only their last part counts, for directories move.
    """
    run, outside = tmp_path / "run", tmp_path / "outside"
    make(run, "tensorflow")
    if exists:
        make(outside, "tensorflow")
    (run / "checkpoint").write_text(f'model_checkpoint_path: "{outside}/ckpt-5"\n')

    check(run, "tensorflow", read, latest=True)
