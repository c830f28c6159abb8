"""
The twenty ways in which a follower of checkpoints goes wrong: each has a test with its number.

A docstring that begins with `Trap 7:` says that its test is one of the seventh. Here are the index
of all, and the tests of those that only a whole stream can meet.
"""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from evidence import Run, write
from saves import FSDP, SAVES, TENSORS, TORCH, Save
from steering import drained, failing, run_status, steps, virtual

from ckptstream import CheckpointStream, follow, latest_checkpoint
from ckptstream.layouts import resolve
from ckptstream.testing import ManualWatcher, save

TESTS = Path(__file__).parents[1]
TRAPS = {
    1: "a marker that is older than the data, when a step is saved again in place",
    2: "a deletion under the finished name, in arbitrary order",
    3: "a rename between filesystems, which is a copy that grows",
    4: "a pointer that leads, or lags behind, what it names",
    5: "an upload or a copy that publishes the marker first",
    6: "directories that cannot be renamed at once, in buckets and on FUSE",
    7: "directories that appear early under their final names",
    8: "steps that go backwards",
    9: "sizes and headers that are right while the content is not there",
    10: "symbolic links that are removed and made again, and dangle meanwhile",
    11: "checkpoints that are deleted before they are replaced",
    12: "numbers that are no steps",
    13: "files that are held open while the trainer deletes them",
    14: "readers that write where a trainer writes",
    15: "clocks of other hosts",
    16: "listings and attributes that a network filesystem has cached",
    17: "files of other ranks that come after the marker",
    18: "paths in pointers: absolute, moved and escaped",
    19: "permissions: what cannot be read is neither unfinished nor corrupt",
    20: "half-dead remains of a crash or a deletion",
}
LONG = 15.0  # seconds in which everything settles

streams = pytest.mark.anyio
each_save = pytest.mark.parametrize("one", SAVES, ids=str)


def traps_of(source: str) -> Iterator[int]:
    """
    The numbers in the docstrings of a file's tests.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name[:5] == "test_":
            found = re.match(r"\s*Trap ([0-9]+): ", ast.get_docstring(node) or "")
            if found is not None:
                yield int(found[1])


def test_every_trap_has_a_test() -> None:
    """
    Whoever takes a test away must see which trap is open again.
    """
    found = {number for path in TESTS.rglob("test_*.py") for number in traps_of(path.read_text())}

    assert TRAPS.keys() == found


def test_only_docstrings_of_tests_count() -> None:
    """
    Neither a helper's nor a number in the middle of a sentence.
    """
    helper = 'def help():\n    """Trap 1: x."""\n'
    middle = 'def test_a():\n    """As Trap 2: x."""\n'
    one = 'async def test_b():\n    """\n    Trap 3: x.\n    """\n'

    assert [3] == list(traps_of(helper + middle + one))


async def all_at(run: Path, layout: str = "auto") -> list[int | None]:
    """
    The steps that a stream gets that is opened now and ends at once.
    """
    stream = follow(run, layout=layout, watcher=ManualWatcher(), timeout=0)
    return [checkpoint.step async for checkpoint in stream]


async def patient(
    stream: CheckpointStream, watcher: ManualWatcher, *changed: str, arrived: bool = True
) -> list[int | None]:
    """
    The steps of what comes after these names have changed, however long one waits.
    """
    found = list[int | None]()
    for name in changed:
        watcher.event(name, arrived=arrived)
    for _ in range(3):
        found += await steps(stream, watcher)
        await anyio.sleep(LONG)
    return found + await steps(stream, watcher)


@streams
async def test_trap_4_a_pointer_that_has_grown_large(run: Path) -> None:
    """
    Trap 4: Ray's holds the metrics of all checkpoints that are kept, however many.
    """
    name = Path(save(run, 1, "ray")).name
    results = [{"checkpoint_dir_name": name, "metrics": {"loss": "0" * 1000}}] * 6000
    (run / "checkpoint_manager_snapshot.json").write_text(
        json.dumps({"checkpoint_results": results, "latest_checkpoint_result": results[0]})
    )

    assert [None] == await all_at(run, "ray")


@streams
@virtual
@pytest.mark.parametrize("layout", ["megatron", "auto"])
async def test_trap_10_iterations_that_are_links(
    run: Path, tmp_path: Path, watcher: ManualWatcher, layout: str
) -> None:
    """
    Trap 10: Megatron keeps them: each comes once, by its own name, wherever it leads.
    """
    stream = follow(run, layout=layout, watcher=watcher)
    first, second, third = (run / f"iter_000000{step}" for step in (5, 6, 7))
    first.symlink_to(save(tmp_path / "elsewhere", 5, "megatron"))
    second.symlink_to(third.name)
    save(run, 7, "megatron")
    assert [5, 6, 7] == await patient(stream, watcher, *os.listdir(run))

    third.rename(tmp_path / "archived")
    assert [] == await patient(stream, watcher, third.name, arrived=False)
    third.symlink_to(tmp_path / "archived")
    assert [] == await patient(stream, watcher, third.name)
    assert () == run_status(stream).missed


EARLY = [save for save in SAVES if "/" in str(save.steps[0][0]) and save.steps[0][2] != "not there"]


@streams
@virtual
@pytest.mark.parametrize("one", EARLY, ids=str)
async def test_trap_7_a_directory_comes_before_what_is_in_it(
    run: Path, watcher: ManualWatcher, one: Save
) -> None:
    """
    Trap 7: neither the event of a new directory, nor the highest number, is a checkpoint.
    """
    stream = follow(run, layout=one.layout, watcher=watcher)
    assert [] == await steps(stream, watcher)
    (run / one.name).mkdir()

    assert [] == await patient(stream, watcher, one.name)
    assert await latest_checkpoint(run, layout=one.layout, watcher=ManualWatcher()) is None


@streams
@pytest.mark.parametrize("layout", ["hf", "orbax", "tensorflow"])
async def test_trap_7_the_highest_number_is_not_the_newest(run: Path, layout: str) -> None:
    """
    Trap 7: while step 2 is only a name, step 1 is the latest.
    """
    first = save(run, 1, layout)
    (run / Path(first).name.replace("1", "2")).mkdir()

    assert first == await latest_checkpoint(run, watcher=ManualWatcher())
    assert [1] == await all_at(run)


@streams
@virtual
@pytest.mark.parametrize("layout", ["accelerate", "flax", "keras-backup"])
async def test_trap_11_deleted_before_it_is_replaced(
    run: Path, watcher: ManualWatcher, layout: str
) -> None:
    """
    Trap 11: an empty directory is neither the end nor an error, and what comes then is new.
    """
    one = next(save for save in SAVES if save.layout == layout)
    stream = follow(run, layout=layout, watcher=watcher)
    for start in (1000, 2000):
        one.done(run, start)
        assert [one.step] == await patient(stream, watcher, *os.listdir(run))
        names = os.listdir(run)
        for name in names:
            shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
        assert [] == await patient(stream, watcher, *names, arrived=False)
        assert "waiting for the first checkpoint" == run_status(stream).waiting_for

    assert ((), None) == (run_status(stream).missed, stream.status().ended)


@streams
@virtual
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel, on Linux")
@each_save
async def test_trap_13_no_file_is_held_open(run: Path, watcher: ManualWatcher, one: Save) -> None:
    """
    Trap 13: on NFS an open file makes the trainer's own deletion fail.
    """
    stream = follow(run, layout=one.layout, watcher=watcher)
    for _ in one.play(run):
        watcher.touch()
        await drained(stream, watcher)
        assert [] == held_below(run)
    await patient(stream, watcher)

    assert run_status(stream).newest is not None
    assert [] == held_below(run)


def held_below(run: Path) -> list[str]:
    """
    What this process holds open there.
    """
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    targets = [os.readlink(link) for link in links if os.path.islink(link)]
    return [target for target in targets if target.startswith(str(run))]


@streams
@virtual
@each_save
async def test_trap_14_readers_that_write(run: Path, watcher: ManualWatcher, one: Save) -> None:
    """
    Trap 14: nothing is written where a trainer writes, and other readers' copies are none.
    """
    one.done(run)
    for copy in ("_SNAPSHOTS/_SNAPSHOT_5", f"_SNAPSHOTS/{one.name}"):
        write(run / copy / "_CHECKPOINT_METADATA", '{"commit_timestamp_nsecs": 17}')
    before = seen(run)
    stream = follow(run, layout=one.layout, watcher=watcher)
    found = [checkpoint.path for checkpoint in await drained(stream, watcher)]
    for _ in range(3):
        await anyio.sleep(LONG)
        found += [checkpoint.path for checkpoint in await drained(stream, watcher)]

    assert [str(run / one.name)] == found
    assert before == seen(run)


def seen(run: Path) -> dict[str, tuple[int, int, int]]:
    """
    All that lies there, with sizes, times of change and inodes, also the directories'.
    """
    paths = [run, *run.rglob("*")]
    stats = {str(path): path.lstat() for path in paths}
    return {path: (stat.st_size, stat.st_ctime_ns, stat.st_ino) for path, stat in stats.items()}


@streams
@virtual
@pytest.mark.parametrize("moment", [0, 86_400, 4_000_000_000], ids=["1970", "a day later", "2096"])
@each_save
async def test_trap_15_clocks_of_others(
    run: Path, monkeypatch: pytest.MonkeyPatch, one: Save, moment: int
) -> None:
    """
    Trap 15: a file server's times are compared with each other, never with a clock of this host.
    """

    def forbidden() -> float:
        raise AssertionError("the wall clock was asked")

    one.done(run, start=moment)
    monkeypatch.setattr(time, "time", forbidden)
    monkeypatch.setattr(time, "time_ns", forbidden)

    assert [one.step] == await all_at(run, one.layout)


@streams
@virtual
async def test_trap_15_an_hour_that_is_repeated(run: Path, watcher: ManualWatcher) -> None:
    """
    Trap 15: Ray's names are of local time: the later one may have the earlier name.
    """
    stream = follow(run, layout="ray", watcher=watcher)
    names = [f"checkpoint_2026-10-25_{time}.000000" for time in ("02-50-00", "02-10-00")]
    results = list[dict[str, str]]()
    for at, name in enumerate(names, 1000):
        write(run / name / "model.pt", at=at)
        results.append({"checkpoint_dir_name": name})
        snapshot = {"checkpoint_results": results, "latest_checkpoint_result": results[-1]}
        write(run / "checkpoint_manager_snapshot.json", json.dumps(snapshot), at=at)
        watcher.touch()
        assert [str(run / name)] == [each.path for each in await drained(stream, watcher)]

    assert () == run_status(stream).missed
    assert [None, None] == await all_at(run, "ray")


@streams
@virtual
@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
@pytest.mark.parametrize("layout", ["hf", "orbax", "tensorflow", "dcp"])
async def test_trap_16_a_stale_listing(
    run: Path, monkeypatch: pytest.MonkeyPatch, layout: str, number: int
) -> None:
    """
    Trap 16: it names what is gone and not what has come; what can be read comes, the rest later.
    """
    for step in (1, 2, 3):
        if layout == "dcp":
            write(run / f"step_{step}/__0_0.distcp", at=1)
            write(run / f"step_{step}/.metadata", at=2)
        else:
            save(run, step, layout, earlier=range(1, step))
    names = {n: [x for x in os.listdir(run) if re.search(rf"(^|[-_]){n}(\.|$)", x)] for n in (1, 2)}
    listdir, stat = os.listdir, os.stat
    gone, hidden = {*names[1], "step_9", "checkpoint-9", "9"}, set(names[2])

    def stale(path: str) -> list[str]:
        found = listdir(path)
        return [*set(found) - hidden, *gone] if str(path) == str(run) else found

    def faulty(path: str, **how: bool) -> os.stat_result:
        top = os.path.relpath(path, run).split("/")[0] if str(path).startswith(str(run)) else ""
        if top in gone:
            raise OSError(number, os.strerror(number), path)
        return stat(path, **how)

    watcher = ManualWatcher(events=False)
    stream = follow(run, layout=layout, watcher=watcher)
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", stale)
        patched.setattr(os, "stat", faulty)
        assert [3] == await patient(stream, watcher)
    gone.clear()
    hidden.clear()
    os.utime(run)  # With a new listing comes the directory's new time.

    assert [1, 2] == sorted(step or 0 for step in await patient(stream, watcher))
    assert not any(missed.finished for missed in run_status(stream).missed)


@streams
@virtual
@pytest.mark.parametrize("layout", ["lightning", "auto"])
async def test_trap_19_a_file_that_must_not_be_read_yet(
    run: Path, watcher: ManualWatcher, layout: str
) -> None:
    """
    Trap 19: Lightning's is of mode 0600 until a chmod: that is said of it, and then it comes.
    """
    name = "epoch=1-step=5.ckpt"
    stream = follow(run, layout=layout, watcher=watcher)
    write(run / name, TORCH, at=1000)
    # The tests may run as root, who may read all.
    with failing("open", errno.EACCES, name):
        assert [] == await patient(stream, watcher, name)
        reason = f"cannot be read: Permission denied: {str(run / name)!r}"
        assert {name: reason} == run_status(stream).unfinished
        assert f"{name}: it is waited for; check its permissions and its mount" in (
            run_status(stream).remedies
        )
    assert [5] == await patient(stream, watcher, name, arrived=False)

    with failing("open", errno.EACCES, name):
        assert [] == await patient(stream, watcher, name, arrived=False)
    assert [] == await patient(stream, watcher, name, arrived=False)
    assert () == run_status(stream).missed


@streams
@virtual
@pytest.mark.parametrize(
    ("layout", "half", "lacking"),
    [
        ("prime-rl", {"step_5/model.safetensors": TENSORS}, "no STABLE, or no trainer/.metadata"),
        ("verl", {"global_step_5/data.pt": TORCH}, "no actor"),
        ("verl", {f"global_step_5/actor/{FSDP(1)}": TORCH}, f"no actor/{FSDP(0)}"),
    ],
    ids=["prime-rl", "verl", "verl-rank"],
)
async def test_trap_20_half_dead_remains(
    run: Path, watcher: ManualWatcher, layout: str, half: dict[str, bytes], lacking: str
) -> None:
    """
    Trap 20: for them nothing that is newer has to wait, and each says what it lacks.
    """
    stream = follow(run, layout=layout, watcher=watcher)
    for path, content in half.items():
        write(run / path, content)
    (name,) = os.listdir(run)
    assert [] == await patient(stream, watcher, name)
    for step in (6, 7):
        new = save(run, step, layout)
        watcher.touch()
        assert [step] == await steps(stream, watcher)
        assert new == await latest_checkpoint(run, layout=layout, watcher=ManualWatcher())

    assert [] == await patient(stream, watcher)
    assert {name: lacking} == run_status(stream).unfinished
    assert () == run_status(stream).missed
    assert [6, 7] == await all_at(run, layout)


def test_trap_9_full_size_and_nothing_in_it(tmp_path: Path) -> None:
    """
    Trap 9: a file that was given its size first is zeros; a body of zeros looks whole, and waits.
    """
    run = Run(tmp_path, resolve("safetensors"))
    weights = tmp_path / "out-5/model.safetensors"
    write(weights, bytes(len(TENSORS)), at=1000)
    missing = run.judge("out-5", settled=True).missing
    assert "model.safetensors: no safetensors header" == missing

    write(weights, TENSORS[:-8] + bytes(8), at=1001)
    assert "waits until it has settled" == run.judge("out-5").missing
