"""
The simulated trainer writes what the real frameworks write, in their order.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any

import aiofiles.threadpool
import anyio
import pytest
from observing import SECONDS, until

from ckptstream import UnknownLayout, follow
from ckptstream.testing import Operation, SimulatedTrainer, apply, operations, save

pytestmark = pytest.mark.anyio

LAYOUTS = ["hf", "orbax", "tensorflow", "ckpt_{step}.pt", "step_{step}/DONE"]


def every_layout() -> list[str]:
    """
    What `operations` knows, and templates.
    """
    with pytest.raises(UnknownLayout) as unknown:
        operations(1, "none")
    return [*unknown.value.known, *LAYOUTS[3:]]


every = pytest.mark.parametrize("layout", every_layout())


@pytest.fixture
def anyio_backend() -> str:
    """
    The trainer's `aiofiles` runs on asyncio alone.
    """
    return "asyncio"


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def timeless(directory: Path) -> list[str]:
    """
    The same without the times that some names hold.
    """
    return [re.sub(r"(tmp-?|tempstate)[0-9a-f]+", "tmp", file) for file in files(directory)]


def names(run: Iterator[Operation]) -> list[str]:
    """
    The operations, one line each, a growing file only once.
    """
    return [
        f"{operation.action} {operation.path}"
        + (f" -> {operation.target}" * bool(operation.target))
        for operation in run
        if operation.action != "append"
    ]


async def delivered(run: Path, layout: str = "auto") -> list[int | None]:
    """
    The steps that one complete look finds.
    """
    return [checkpoint.step async for checkpoint in follow(run, layout=layout, timeout=0)]


def test_hf_writes_the_state_last_and_then_rotates() -> None:
    """
    Hugging Face's `Trainer` fills the final directory; `trainer_state.json` ends it.
    """
    assert [
        "mkdir checkpoint-3",
        "write checkpoint-3/config.json",
        "write checkpoint-3/.tmp000000",
        "rename checkpoint-3/.tmp000000 -> checkpoint-3/model.safetensors",
        "write checkpoint-3/training_args.bin",
        "write checkpoint-3/optimizer.pt",
        "write checkpoint-3/scheduler.pt",
        "write checkpoint-3/rng_state.pth",
        "write checkpoint-3/trainer_state.json",
        "remove checkpoint-1/training_args.bin",
        "remove checkpoint-1/model.safetensors",
        "rmtree checkpoint-1",
    ] == names(operations(3, "hf", earlier=[1, 2], keep=2))


def test_orbax_renames_the_whole_directory() -> None:
    """
    Nothing appears under Orbax's final name before the rename that finishes it.
    """
    run = list(operations(3, "orbax"))

    assert "rename 3.orbax-checkpoint-tmp -> 3" == names(iter(run))[-1]
    assert "3" == run[-1].finishes
    assert all(operation.path.startswith("3.orbax") for operation in run[1:])


def test_tensorflow_renames_the_state_file_before_and_after_it_deletes() -> None:
    """
    The state file names the new checkpoint before `CheckpointManager` deletes an old one.
    """
    late = names(operations(3, "tensorflow", earlier=[1, 2], keep=2))[-6:]

    assert ["remove ckpt-1.index", "remove ckpt-1.data-00000-of-00001"] == late[2:4]
    assert ["rename", "rename"] == [late[1].split()[0], late[5].split()[0]]
    assert late[1].endswith("-> checkpoint")
    assert late[5].endswith("-> checkpoint")


@every
@pytest.mark.parametrize("shards", [1, 3])
def test_one_operation_finishes_a_checkpoint(layout: str, shards: int) -> None:
    """
    Each save says once where it is finished.
    """
    run = operations(7, layout, shards=shards)

    assert 1 == len([operation for operation in run if operation.finishes])


@every
async def test_task_and_blocking_calls_leave_the_same_files(layout: str, tmp_path: Path) -> None:
    """
    `SimulatedTrainer` and `save` do the same to the disk.
    """
    blocking, task = tmp_path / "blocking", tmp_path / "task"
    trainer = SimulatedTrainer(task, layout, steps=4, interval=0, keep=2, shards=3)

    await trainer.run()
    for step, earlier in [(1, []), (2, [1]), (3, [1, 2]), (4, [2, 3])]:
        path = save(blocking, step, layout, earlier=earlier, keep=2, shards=3)
        assert str(task / Path(path).name) in trainer.committed

    assert files(blocking) == files(task)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_what_is_saved_is_delivered_and_nothing_unfinished(
    layout: str, tmp_path: Path
) -> None:
    """
    The stream takes a simulated checkpoint for finished when it is, and not an operation before.
    """
    chosen = layout if "{step}" in layout else "auto"
    save(tmp_path, 1, layout)
    run = operations(2, layout, earlier=[1])
    for operation in takewhile(lambda operation: operation.finishes is None, run):
        apply(operation, tmp_path)
    before = await delivered(tmp_path, chosen)
    (tmp_path / "other").mkdir()
    save(tmp_path / "other", 1, layout)
    save(tmp_path / "other", 2, layout, earlier=[1])

    assert [1, 2] == await delivered(tmp_path / "other", chosen)
    # TensorFlow's files are whole before the state file names them: settled, they count.
    assert ([1, 2] if layout == "tensorflow" else [1]) == before


def test_weights_tell_the_step_in_their_own_format(tmp_path: Path) -> None:
    """
    Shards are safetensors files, the rest zip archives as torch writes them.
    """
    path = Path(save(tmp_path, 30, shards=2, shard_bytes=6))

    index = json.loads((path / "model.safetensors.index.json").read_text())
    for tensor, file in index["weight_map"].items():
        content = (path / file).read_bytes()
        length = int.from_bytes(content[:8], "little")
        assert [tensor] == list(json.loads(content[8 : 8 + length]))
        assert b"30 30 " == content[8 + length :]
    assert zipfile.is_zipfile(path / "optimizer.pt")
    assert 30 == json.loads((path / "trainer_state.json").read_text())["global_step"]


async def test_steps_may_be_any_numbers(tmp_path: Path) -> None:
    """
    `steps` takes what counts, also without end.
    """
    trainer = SimulatedTrainer(tmp_path, steps=count(100, 100), interval=0, keep=1)
    training = asyncio.create_task(trainer.run())
    async with follow(tmp_path, until_step=300, timeout=10) as stream:
        async for _ in stream:
            pass
    training.cancel()
    await asyncio.wait([training])

    assert f"{tmp_path}/checkpoint-300" in trainer.committed


async def test_it_goes_back_to_an_earlier_step(tmp_path: Path) -> None:
    """
    The steps may come again: what is saved again is new.
    """
    trainer = SimulatedTrainer(tmp_path, steps=[1, 2, 3, 2, 2], interval=0.05)
    training = asyncio.create_task(trainer.run())
    async with follow(tmp_path, timeout=SECONDS) as stream:
        steps = [(await anext(stream)).step for _ in range(5)]
    await training

    assert [1, 2, 3, 2, 2] == steps


@every
def test_a_crash_leaves_what_was_done(layout: str, tmp_path: Path) -> None:
    """
    After any operation; and the path is that of the checkpoint that it would have been.
    """
    path = save(tmp_path / "whole", 5, layout)
    for number in range(1, len(list(operations(5, layout))) + 1):
        crashed, stopped = tmp_path / f"{number}", tmp_path / f"{number}-stopped"

        assert str(crashed / Path(path).name) == save(crashed, 5, layout, crash_after=number)
        stopped.mkdir()
        for operation in islice(operations(5, layout), number):
            apply(operation, stopped)
        crashed.mkdir(exist_ok=True)
        assert timeless(stopped) == timeless(crashed)


@every
def test_a_crashed_step_is_saved_again(layout: str, tmp_path: Path) -> None:
    """
    What a crash leaves stands in nobody's way, wherever it was.
    """
    clean = tmp_path / "clean"
    save(clean, 1, layout)
    save(clean, 2, layout, earlier=[1], keep=1)
    for number in range(1, len(list(operations(2, layout, earlier=[1], keep=1)))):
        run = tmp_path / f"{number}"
        save(run, 1, layout)
        save(run, 2, layout, earlier=[1], keep=1, crash_after=number)
        save(run, 2, layout, earlier=[1], keep=1)

        assert set(files(clean)) <= set(files(run))


async def test_what_a_crash_left_undeleted_is_deleted_with_the_next(tmp_path: Path) -> None:
    """
    `keep` holds again.
    """
    trainer = SimulatedTrainer(tmp_path, keep=1)
    await trainer.save(1)
    everything = len(list(operations(2, earlier=[1], keep=1)))
    await trainer.save(2, crash_after=everything - 1)
    assert (tmp_path / "checkpoint-1").exists()
    await trainer.save(3)

    assert ["checkpoint-3"] == os.listdir(tmp_path)


async def test_a_crash_is_no_commit(tmp_path: Path) -> None:
    """
    `committed` has what is finished, and so has a stream.
    """
    trainer = SimulatedTrainer(tmp_path)
    whole = await trainer.save(1)
    half = await trainer.save(2, crash_after=7)

    assert [whole] == list(trainer.committed)
    assert os.listdir(half)
    assert [1] == await delivered(tmp_path)


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_while_a_thread_opens_a_file_it_closes_that(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    However often: the cancelled task ends after what it was doing to the disk.
    """
    opening, go_on = threading.Event(), threading.Event()
    opened = list[io.IOBase]()

    def slow_open(*arguments: Any, **options: Any) -> io.IOBase:
        opening.set()
        go_on.wait(SECONDS)
        opened.append(open(*arguments, **options))  # noqa: SIM115
        return opened[0]

    monkeypatch.setattr(aiofiles.threadpool, "sync_open", slow_open)
    saving = asyncio.create_task(SimulatedTrainer(tmp_path).save(1))
    await until(opening.is_set)
    for _ in range(times):
        saving.cancel()
        await anyio.wait_all_tasks_blocked()
    assert not saving.done()
    go_on.set()
    await asyncio.wait([saving])

    assert saving.cancelled()
    assert [True] == [file.closed for file in opened]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "hff"}, "layout='hff' is not known"),
        ({"layout": "runs/step_{step}"}, "is not known"),
        ({"keep": 0}, "keep=0 is too few"),
        ({"shards": 0}, "shards=0 is too few"),
        ({"shard_bytes": 0}, "shard_bytes=0 is too few"),
        ({"steps": 0}, "steps=0 saves nothing"),
        ({"interval": -1}, "interval=-1 is no time"),
        ({"interval": float("nan")}, "interval=nan is no time"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    """
    The error names the argument and its value.
    """
    with pytest.raises(ValueError, match=message):
        SimulatedTrainer("run", **arguments)  # type: ignore[arg-type]


def test_negative_step_is_refused(tmp_path: Path) -> None:
    """
    No framework writes one.
    """
    with pytest.raises(ValueError, match="step=-1 is no step"):
        save(tmp_path, -1)


def test_a_crash_after_nothing_is_refused(tmp_path: Path) -> None:
    """
    It would not even begin.
    """
    with pytest.raises(ValueError, match="crash_after=0 is too few"):
        save(tmp_path, 1, crash_after=0)


def test_without_aiofiles_the_rest_works(tmp_path: Path) -> None:
    """
    Only the asyncio task needs `aiofiles`, and says how to get it.
    """
    program = """if True:
        import sys
        sys.modules["aiofiles"] = None
        from ckptstream.testing import SimulatedTrainer, save
        print(save(sys.argv[1], 5))
        try:
            SimulatedTrainer(sys.argv[1])
        except ImportError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", program, os.fspath(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert [
        f"{tmp_path}/checkpoint-5",
        "SimulatedTrainer needs aiofiles: pip install 'ckptstream[testing]'",
    ] == done.stdout.splitlines()
