"""
The simulated trainer as a process of its own, for any event loop.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from examples import README
from observing import SECONDS

import ckptstream
import ckptstream.sync
import ckptstream.testing
from ckptstream import Checkpoint, follow
from ckptstream.testing import operations

COMMAND = [sys.executable, "-m", "ckptstream.testing"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """
    The command, from its start to its end.
    """
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.anyio
async def test_it_trains_for_every_event_loop(tmp_path: Path) -> None:
    """
    Nothing of it runs in the event loop.
    """
    command = [*COMMAND, str(tmp_path), "--layout", "megatron", "--steps", "3", "--interval", "0.1"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.run_process, command)
        stream = follow(tmp_path, until_step=3, timeout=SECONDS)
        names = [os.path.basename(checkpoint.path) async for checkpoint in stream]

    assert ["iter_0000001", "iter_0000002", "iter_0000003"] == names


@pytest.mark.anyio
async def test_the_example_of_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It runs as it stands.
    """
    monkeypatch.chdir(tmp_path)
    [example] = re.findall(r"(?:^    .*\n)+", ckptstream.testing.__doc__ or "", re.MULTILINE)
    body = textwrap.indent(textwrap.dedent(example), "    ")
    body = body.replace("...", "seen.append(checkpoint)")
    seen = list[Checkpoint]()
    names: dict[str, Any] = {"sys": sys, "anyio": anyio, "ckptstream": ckptstream, "seen": seen}
    exec(f"async def example():\n{body}", names)
    await names["example"]()

    assert [f"runs/7b/iter_000000{step}" for step in range(1, 6)] == list(map(str, seen))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_it_dies_with_the_nursery(tmp_path: Path) -> None:
    """
    trio's own way to start it; whoever leaves kills it.
    """
    command = [*COMMAND, str(tmp_path), "--interval", "1000"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.run_process, command)
        checkpoint = await anext(follow(tmp_path, timeout=SECONDS))
        nursery.cancel_scope.cancel()

    assert 1 == checkpoint.step
    assert ["checkpoint-1"] == os.listdir(tmp_path)


def test_it_says_nothing_and_ends_with_0(tmp_path: Path) -> None:
    """
    Every knob is an option.
    """
    options = ["--layout", "hf", "--steps", "3", "--interval", "0", "--keep", "2"]
    done = run(tmp_path / "run", *options, "--shards", "2", "--shard-bytes", "10")

    assert ("", "", 0) == (done.stdout, done.stderr, done.returncode)
    assert ["checkpoint-2", "checkpoint-3"] == sorted(os.listdir(tmp_path / "run"))
    shards = (tmp_path / "run" / "checkpoint-3").glob("*.safetensors")
    assert 2 == len([shard for shard in shards if shard.read_bytes().endswith(b"3 3 3 3 3 ")])


@pytest.mark.anyio
async def test_it_goes_back_and_saves_again(tmp_path: Path) -> None:
    """
    `--steps` takes a list, too.
    """
    command = [*COMMAND, str(tmp_path), "--steps", "1,2,3,2,2", "--interval", "0.2"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.run_process, command)
        stream = follow(tmp_path, timeout=SECONDS)
        assert [1, 2, 3, 2, 2] == [(await anext(stream)).step for _ in range(5)]


def test_it_crashes_in_the_last_step(tmp_path: Path) -> None:
    """
    The half of it is left, and the exit code tells.
    """
    number = len(list(operations(2, "orbax"))) - 1
    options = ["--layout", "orbax", "--steps", "2", "--interval", "0"]
    done = run(tmp_path, *options, "--crash-after", str(number))

    assert ("", "", 1) == (done.stdout, done.stderr, done.returncode)
    assert ["1", "2.orbax-checkpoint-tmp"] == sorted(os.listdir(tmp_path))


def test_interrupted_it_leaves_quietly(tmp_path: Path) -> None:
    """
    Ctrl-C exits with 130 and no traceback.
    """
    command = [*COMMAND, str(tmp_path), "--steps", "1000", "--interval", "0.01"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert 1 == next(iter(ckptstream.sync.follow(tmp_path, timeout=SECONDS))).step
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)

    assert ("", 130) == (errors, process.returncode)


def test_where_it_cannot_write_it_says_so_in_one_line(tmp_path: Path) -> None:
    """
    No traceback.
    """
    (tmp_path / "file").touch()
    done = run(tmp_path / "file" / "run")

    assert ("", 1) == (done.stdout, done.returncode)
    assert re.fullmatch("python -m ckptstream.testing: error: .*Not a directory.*\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout", "hff"], r"layout='hff' is not known \(did you mean 'hf'\?\)"),
        (["--layout", "auto"], "layout='auto' is not known"),
        (["--steps", "0"], "'0' is no number of steps, 1 or more"),
        (["--steps", "many"], "'many' is no number of steps"),
        (["--steps", ","], "',' is no number of steps"),
        (["--steps=3,-1"], "'3,-1' is no number of steps, .* and no list of steps, 0 or more"),
        (["--interval", str(math.nan)], "interval=nan is no time"),
        (["--keep", "0"], "keep=0 is too few"),
        (["--crash-after", "0"], "crash_after=0 is too few"),
    ],
)
def test_wrong_call_exits_with_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    """
    Nothing is written, and what is wrong stands on standard error.
    """
    done = run(tmp_path / "run", *arguments)

    assert ("", 2) == (done.stdout, done.returncode)
    assert re.search(message, done.stderr)
    assert not (tmp_path / "run").exists()


def test_the_example_of_the_readme(tmp_path: Path) -> None:
    """
    It runs as it stands.
    """
    shown = re.findall(r"^\$ python( -m ckptstream\.testing .*)", README.read_text(), re.MULTILINE)
    [command] = shown
    subprocess.run([sys.executable, *command.split()], cwd=tmp_path, timeout=SECONDS, check=True)

    assert ["2", "3"] == sorted(os.listdir(tmp_path / "runs/7b"))
