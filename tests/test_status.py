"""
`status()`: what a run waits for in plain words, readable in a terminal and in a notebook.
"""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from steering import HeldWatcher, failing, half_save, rest, run_status, steps, virtual

from ckptstream import follow
from ckptstream.layouts._auto import BUILT_IN
from ckptstream.testing import ManualWatcher, apply, operations, save

pytestmark = pytest.mark.anyio

# Where it is no file in the checkpoint that tells.
IN_WORDS = {
    "composer": "a file that is not empty, .metadata or *.distcp",
    "fairseq": "a file of torch.save",
    "keras": "a zip archive or HDF5",
    "keras-sharded": "a manifest or HDF5",
    "lightning": "a file of torch.save, meta.pt or *.distcp",
    "sb3": "a zip archive",
    "tensorflow": ".data-00000-of-00001 files",
    "torch": "a file of torch.save",
}


def test_before_the_first_look(run: Path) -> None:
    """
    Nothing is known yet, and it says so.
    """
    stream = follow(run)

    assert f"{run}: waiting for the first look (no watcher yet, never looked at)" == str(
        stream.status()
    )
    assert (None, None, None) == (
        run_status(stream).watcher,
        run_status(stream).last_look,
        run_status(stream).newest,
    )


@virtual
@pytest.mark.parametrize("layout", [each.name for each in BUILT_IN])
async def test_by_what_auto_has_recognised_a_layout(
    run: Path, watcher: ManualWatcher, layout: str
) -> None:
    """
    Of what is finished, and only where it had to decide.
    """
    save(run, 1, layout)
    [decided, told] = [
        follow(run, layout=each, timeout=0, watcher=watcher) for each in ("auto", layout)
    ]
    assert 1 == len(await rest(decided)) == len(await rest(told))
    found = run_status(decided).recognised
    files = {path.name for path in run.rglob("*")}

    assert ([layout], {}) == (list(found), run_status(told).recognised)
    assert found[layout] in ({IN_WORDS[layout]} if layout in IN_WORDS else files)
    assert f"  recognised as {layout} by {found[layout]}\n" in str(decided.status())


async def test_what_has_once_been_recognised_is_not_forgotten(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Each layout once, by the first of its checkpoints, whatever happens then.
    """
    stream = follow(run, watcher=watcher)
    for step, layout in enumerate(["hf", "prime-rl", "hf"], 1):
        save(run, step, layout)
        watcher.touch()
        assert [step] == await steps(stream, watcher)
    (run / "checkpoint-1" / "trainer_state.json").unlink()
    watcher.touch()
    await steps(stream, watcher)

    signs = {"hf": "trainer_state.json", "prime-rl": "STABLE"}
    assert signs == run_status(stream).recognised


async def test_an_empty_directory(run: Path, watcher: ManualWatcher) -> None:
    """
    It waits for the first checkpoint.
    """
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)

    assert "waiting for the first checkpoint" == run_status(stream).waiting_for


async def test_a_directory_that_is_not_there(run: Path, watcher: ManualWatcher) -> None:
    """
    Not yet, and gone, are two things.
    """
    run.rmdir()
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    words = [run_status(stream).waiting_for]
    run.mkdir()
    watcher.touch()
    await steps(stream, watcher)
    run.rmdir()
    watcher.touch()
    await steps(stream, watcher)
    words.append(run_status(stream).waiting_for)

    assert ["the directory is not there yet", "the directory is gone"] == words


async def test_a_directory_that_cannot_be_read(run: Path, watcher: ManualWatcher) -> None:
    """
    In the system's own words.
    """

    stream = follow(run, watcher=watcher)
    with failing("listdir", errno.EACCES):
        await steps(stream, watcher)

    expected = f"the directory cannot be read (Permission denied: {str(run)!r})"
    assert expected == run_status(stream).waiting_for


@pytest.mark.parametrize("whole", [True, False], ids=["the directory", "one file"])
async def test_a_pointer_that_cannot_be_read(
    run: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """
    The directory is named where nothing in it can be reached.
    """
    real = os.stat

    def readlink(path: str) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    def stat(path: str, **how: Any) -> os.stat_result:
        if whole and path == f"{run}/.":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, **how)

    stream = follow(run, watcher=watcher)
    with monkeypatch.context() as patched:
        patched.setattr(os, "readlink", readlink)
        patched.setattr(os, "stat", stat)
        await steps(stream, watcher)

    named = str(run if whole else run / "checkpoint")
    expected = f"the directory cannot be read (Permission denied: {named!r})"
    assert expected == run_status(stream).waiting_for


async def test_an_unfinished_checkpoint_and_what_it_lacks(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    By name, with the missing evidence.
    """
    half_save(run, 300)
    (run / "checkpoint-200").mkdir()
    (run / "checkpoint-200" / "config.json").touch()
    stream = follow(run, layout="hf", watcher=watcher)
    await steps(stream, watcher)
    status = run_status(stream)

    assert {
        "checkpoint-200": "no trainer_state.json",
        "checkpoint-300": "trainer_state.json is not whole",
    } == dict(status.unfinished)
    assert status.waiting_for.startswith("waiting for checkpoint-")
    assert "  checkpoint-200: no trainer_state.json" in str(status).splitlines()


@pytest.mark.parametrize(
    ("layout", "count", "missing"),
    [
        ("orbax", 0, None),
        ("tensorflow", 8, "no ckpt-7.index"),
        ("step_{step}/DONE", 4, "no DONE"),
    ],
)
async def test_each_layout_says_what_is_missing(
    run: Path, watcher: ManualWatcher, layout: str, count: int, missing: str | None
) -> None:
    """
    Nothing where the name is not there before it is finished.
    """
    for number, operation in enumerate(operations(7, layout)):
        if operation.finishes is None and (count == 0 or number < count):
            apply(operation, run)
    stream = follow(run, layout=layout, watcher=watcher)
    await steps(stream, watcher)

    assert [missing] * (missing is not None) == list(run_status(stream).unfinished.values())


async def test_what_was_delivered_and_is_being_deleted_is_not_unfinished(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Nobody waits for it.
    """
    save(run, 1)
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    (run / "checkpoint-1" / "trainer_state.json").unlink()
    watcher.event("checkpoint-1")
    await steps(stream, watcher)

    assert {} == dict(run_status(stream).unfinished)
    assert "waiting for the next checkpoint" == run_status(stream).waiting_for


async def test_nothing_recognised(run: Path, watcher: ManualWatcher) -> None:
    """
    How much lies there, and examples.
    """
    (run / "notes.txt").touch()
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    words = [run_status(stream).waiting_for]
    for name in ("a.txt", "b.txt", "c.txt"):
        (run / name).touch()
    watcher.touch()
    await steps(stream, watcher)
    words.append(run_status(stream).waiting_for)

    assert [
        "its only entry is not recognised as a checkpoint ('notes.txt')",
        "none of its 4 entries is recognised as a checkpoint ('a.txt', 'b.txt', 'c.txt')",
    ] == words


async def test_between_two_checkpoints(run: Path, watcher: ManualWatcher) -> None:
    """
    The newest delivered, and what waits in the queue.
    """
    for step in (1, 2, 3):
        save(run, step)
    stream = follow(run, watcher=watcher)
    first = await anext(stream)
    status = run_status(stream)
    assert (first, 2) == (status.newest, status.queued)
    assert "finished checkpoints wait to be delivered" == status.waiting_for
    await steps(stream, watcher)
    status = run_status(stream)

    assert ("waiting for the next checkpoint", 0) == (status.waiting_for, status.queued)
    assert str(run / "checkpoint-3") == str(status.newest)


async def test_a_pointer_that_has_not_named_the_newest(run: Path, watcher: ManualWatcher) -> None:
    """
    What is finished and not delivered is explained.
    """
    for step in (1, 2, 3):
        save(run, step, "tensorflow", earlier=range(1, step))
    names = "".join(f'all_model_checkpoint_paths: "ckpt-{step}"\n' for step in (1, 2, 3))
    (run / "checkpoint").write_text(f'model_checkpoint_path: "ckpt-2"\n{names}')
    stream = follow(run, latest_only=True, watcher=watcher)
    await steps(stream, watcher)

    assert "waiting for the pointer to name ckpt-3" == run_status(stream).waiting_for


async def test_storage_that_does_not_answer(run: Path) -> None:
    """
    The run is named, with the seconds since its last sign of life.
    """
    watcher = HeldWatcher()
    watcher.hangs = True
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)

    assert "the storage does not answer" == run_status(stream).waiting_for
    assert (run_status(stream).unanswered or 0) > 1
    watcher.answer()
    await steps(stream, watcher)
    assert run_status(stream).unanswered is None


async def test_what_watches_and_why(run: Path) -> None:
    """
    By events or by polling, with the reason.
    """
    found = list[str | None]()
    for choice in ("inotify", "poll"):
        stream = follow(run, timeout=0, watcher="poll" if choice == "poll" else "inotify")
        assert [] == [checkpoint async for checkpoint in stream]
        status = run_status(stream)
        found += [status.watcher, status.watcher_reason]

    assert ["inotify", "poll", "as asked"] == [found[0], *found[2:]]
    assert (found[1] or "").endswith(" is local")


async def test_counts_of_missed_and_skipped(run: Path, watcher: ManualWatcher) -> None:
    """
    Missed ones by path.
    """
    save(run, 1)
    stream = follow(run, skip_existing=True, watcher=watcher)
    await steps(stream, watcher)
    half_save(run, 2)
    watcher.touch()
    await steps(stream, watcher)
    shutil.rmtree(run / "checkpoint-2")
    watcher.touch()
    await steps(stream, watcher)
    lines = str(stream.status()).splitlines()

    assert [f"  missed: {run / 'checkpoint-2'}", "  skipped: 1"] == lines[2:]


async def test_a_hundred_missed_are_remembered_and_all_are_counted(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    A stream that lives for months does not grow.
    """
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    for step in range(250):
        watcher.event(f"checkpoint-{step}", arrived=True)
    await steps(stream, watcher)
    status = run_status(stream)

    assert (250, 100) == (status.missed_count, len(status.missed))


async def test_the_end_is_named(run: Path, watcher: ManualWatcher) -> None:
    """
    `ended` says why.
    """
    stream = follow(run, timeout=0, watcher=watcher)
    assert stream.status().ended is None
    await steps(stream, watcher)

    assert "the timeout has expired" == stream.status().ended
    assert "ended: the timeout has expired" == str(stream.status()).splitlines()[-1]


async def test_the_whole_text(run: Path, watcher: ManualWatcher) -> None:
    """
    One line says where, what for, and through what; the rest is below.
    """
    for step in (1, 2):
        save(run, step)
    half_save(run, 3)
    stream = follow(run, watcher=watcher)
    await anext(stream)
    first, *others = str(stream.status()).splitlines()

    assert first.startswith(f"{run}: finished checkpoints wait to be delivered (inotify: ")
    assert first.endswith(" is local, seen 0.0 s ago)")
    assert [
        "  recognised as hf by trainer_state.json",
        f"  newest delivered: {run / 'checkpoint-1'}",
        "  queued: 1",
        "  checkpoint-3: trainer_state.json is not whole",
    ] == others


async def test_a_table_in_notebooks(run: Path, watcher: ManualWatcher) -> None:
    """
    Of one row for the run; names are no HTML.
    """
    odd = run / "<b>&"
    for step in (1, 2):
        save(odd, step)
    half_save(odd, 3)
    stream = follow(odd, watcher=watcher)
    checkpoint = await anext(stream)
    table = stream.status()._repr_html_()

    assert (1, 2) == (table.count("<table>"), table.count("<tr>"))
    assert "&lt;b&gt;&amp;</td>" in table
    assert "checkpoint-3: trainer_state.json is not whole" in table
    assert "&lt;b&gt;&amp;" in checkpoint._repr_html_()
    assert "<b>&" not in table.replace("<b>&lt;", "")


async def test_names_that_are_not_utf8_can_be_printed(run: Path, watcher: ManualWatcher) -> None:
    """
    In a terminal, in a log file and in a notebook.
    """
    odd = os.fsdecode(b"\xff-5")
    (run / f"{odd}.index").write_bytes(b"x")
    (run / os.fsdecode(b"\xfe")).touch()
    stream = follow(run, layout="tensorflow", watcher=watcher)
    await steps(stream, watcher)

    assert odd in run_status(stream).unfinished
    for text in (str(stream.status()), stream.status()._repr_html_()):
        assert text == text.encode().decode()


async def test_status_is_a_value(run: Path, watcher: ManualWatcher) -> None:
    """
    It does not change when the stream does, and it pickles.
    """
    save(run, 1)
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    status = stream.status()
    text = str(status)
    save(run, 2)
    watcher.touch()
    await steps(stream, watcher)

    assert text == str(status)
    assert status == pickle.loads(pickle.dumps(status))


async def test_status_does_not_look(run: Path, watcher: ManualWatcher) -> None:
    """
    It is what the stream knows, at no cost.
    """
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    looks = watcher.looks
    save(run, 1)
    watcher.touch()
    for _ in range(10):
        stream.status()

    assert looks == watcher.looks


async def test_status_may_be_asked_while_a_task_waits(run: Path, watcher: ManualWatcher) -> None:
    """
    From another task.
    """
    stream = follow(run, watcher=watcher)
    words = list[str]()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                await anext(stream)

            group.start_soon(wait)
            await watcher.waiting()
            words.append(run_status(stream).waiting_for)
            scope.cancel()

    assert ["waiting for the first checkpoint"] == words
