"""
Training goes back to an earlier step, and the pointer names a later one while it is saved again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from replaying import LONG
from simulating import SimulatedDisk
from steering import run_status, steps, virtual_many

from ckptstream import CheckpointStream, follow
from ckptstream.testing import ManualWatcher, operations

pytestmark = [
    pytest.mark.anyio,
    virtual_many,
    pytest.mark.parametrize("layout", ["deepspeed", "megatron", "verl"]),
]

POINTERS = {
    "deepspeed": "latest",
    "megatron": "latest_checkpointed_iteration.txt",
    "verl": "latest_checkpointed_iteration.txt",
}


def train(disk: SimulatedDisk, layout: str, *numbers: int) -> Iterator[bool]:
    """
    Save, and stop after each operation; True: with that one it is finished.
    """
    for step in numbers:
        for operation in operations(step, layout, shards=2):
            disk.apply(operation)
            yield operation.finishes is not None


@pytest.fixture
def disk(run: Path, layout: str) -> SimulatedDisk:
    """
    A run with three steps, which goes back to the first now.
    """
    run.mkdir(exist_ok=True)
    disk = SimulatedDisk(run)
    for _ in train(disk, layout, 10, 20, 30):
        pass
    return disk


async def patiently(stream: CheckpointStream, watcher: ManualWatcher) -> list[int | None]:
    """
    The steps of what comes while nothing is written for long.
    """
    found = await steps(stream, watcher)
    for _ in range(2):
        await anyio.sleep(LONG)
        found += await steps(stream, watcher)
    return found


async def newcomer(run: Path, layout: str) -> list[int | None]:
    """
    The steps that a stream gets that is opened now and ends at once.
    """
    stream = follow(run, layout=layout, watcher=ManualWatcher(), timeout=0)
    return [checkpoint.step async for checkpoint in stream]


@pytest.mark.parametrize("again", [15, 20, 30], ids=["a new step", "between", "the last"])
async def test_trap_8_what_is_saved_after_a_rollback_is_not_early(
    run: Path, disk: SimulatedDisk, layout: str, again: int
) -> None:
    """
    Trap 8: however long it stalls meanwhile, the pointer's later step does not vouch for it.
    """
    watcher = ManualWatcher(events=False)
    stream = follow(run, layout=layout, watcher=watcher, poll_interval=LONG / 3)
    assert [10, 20, 30] == await patiently(stream, watcher)

    found = list[int | None]()
    for done in train(disk, layout, again):
        assert [] == found, "it came before it was finished"
        found += await patiently(stream, watcher)
        if done:
            break
    assert [again] == found
    assert () == run_status(stream).missed


async def test_trap_8_nor_does_a_copied_pointer_vouch_for_what_is_saved_again(
    run: Path, disk: SimulatedDisk, layout: str
) -> None:
    """
    Trap 8: that it is older than all it names says nothing of a checkpoint that was finished.
    """
    os.utime(run / POINTERS[layout], (1, 1))
    watcher = ManualWatcher(events=False)
    stream = follow(run, layout=layout, watcher=watcher, poll_interval=LONG / 3)
    assert [10, 20, 30] == await patiently(stream, watcher)

    found = list[int | None]()
    for done in train(disk, layout, 20):
        assert [] == found, "it came before it was finished"
        found += await patiently(stream, watcher)
        if done:
            break
    assert [20] == found


@pytest.mark.parametrize("again", [15, 20, 30], ids=["a new step", "between", "the last"])
async def test_trap_8_nor_for_who_comes_meanwhile(
    run: Path, disk: SimulatedDisk, layout: str, again: int
) -> None:
    """
    Trap 8: nobody was there when it was finished the first time.
    """
    if (layout, again) == ("deepspeed", 30):
        pytest.skip("other ranks write after `latest`, so that it may have been named before that")
    pointer = POINTERS[layout]
    saving = list(operations(again, layout, shards=2))
    last = [operation.path for operation in saving].index(pointer) - 2
    for number, operation in enumerate(saving):
        disk.apply(operation)
        found = await newcomer(run, layout)
        if operation.finishes:
            assert again in found
            break
        # The first makes the directory, which may be there. When all is new but the pointer, it may
        # as well have been copied after that; no weights are in the last file.
        assert again not in found or number == 0 or (number >= last and again == 30)
        named = (run / pointer).read_text().endswith("30")
        assert not named or {10, 20, 30} - {again} == set(found) - {again}


async def test_trap_8_what_the_pointer_has_gone_back_from(
    run: Path, disk: SimulatedDisk, layout: str
) -> None:
    """
    Trap 8: whether it was finished nobody can tell who was not there, and that is what is said.
    """
    for _ in train(disk, layout, 20):
        pass
    watcher = ManualWatcher()
    stream = follow(run, layout=layout, watcher=watcher)
    assert [10, 20] == await patiently(stream, watcher)

    expected = (
        f"not named by {POINTERS[layout]!r}, which has gone back to step 20 since: "
        "left from before a rollback, finished or not"
    )
    assert [expected] == list(run_status(stream).unfinished.values())


async def test_trap_8_an_unfinished_one_was_not_left(
    run: Path, disk: SimulatedDisk, layout: str
) -> None:
    """
    Trap 8: what is newer than the pointer is being saved, and it is not said of it.
    """
    name = (disk.run / next(iter(operations(40, layout, shards=2))).path).relative_to(run).parts[0]
    for done in train(disk, layout, 40):
        watcher = ManualWatcher()
        stream = follow(run, layout=layout, watcher=watcher)
        found = await patiently(stream, watcher)
        assert (40 in found) is done
        if done:
            break
        assert "gone back" not in run_status(stream).unfinished[name]


async def test_trap_8_a_copied_pointer_tells_no_order(
    run: Path, disk: SimulatedDisk, layout: str
) -> None:
    """
    Trap 8: a pointer that was copied before all else is older than what it names, too.
    """
    content = (run / POINTERS[layout]).read_bytes()
    (run / POINTERS[layout]).unlink()
    (run / POINTERS[layout]).write_bytes(content)
    os.utime(run / POINTERS[layout], (1, 1))

    assert [10, 20, 30] == await newcomer(run, layout)
