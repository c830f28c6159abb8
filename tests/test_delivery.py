"""
"Delivery" of the design, sentence by sentence: what is delivered, missed, and never lost.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from observing import SECONDS
from steering import (
    HeldWatcher,
    drained,
    failing,
    half_save,
    missed,
    rest,
    run_status,
    steps,
    virtual,
)

from ckptstream import Checkpoint, CheckpointStream, follow
from ckptstream._scan import Entry, Look
from ckptstream._stream._ledger import Ledger
from ckptstream._stream._queued import Moment
from ckptstream.layouts import Evidence
from ckptstream.testing import ManualWatcher, apply, operations, save

pytestmark = pytest.mark.anyio

LAYOUTS = ["hf", "orbax", "tensorflow", "step_{step}/DONE"]


def layout_for(name: str) -> str:
    return name if "{" in name else "auto"


# Only finished checkpoints are delivered.


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_only_finished_checkpoints_are_delivered(
    run: Path, watcher: ManualWatcher, layout: str
) -> None:
    """
    It comes after the operation that finishes it: not one earlier, and once.
    """
    stream = follow(run, layout=layout_for(layout), watcher=watcher)
    finished, delivered = list[int](), list[int]()
    for number, operation in enumerate(operations(7, layout)):
        apply(operation, run)
        watcher.touch()
        finished += [number] * (operation.finishes is not None)
        delivered += [number for _ in await steps(stream, watcher)]

    assert finished == delivered
    assert [] == missed(stream)


@virtual
async def test_a_file_is_delivered_once_it_has_settled(run: Path, watcher: ManualWatcher) -> None:
    """
    Where nothing else proves it finished, after one settle interval without a change.
    """
    stream = follow(run, layout="ckpt_{step}.pt", watcher=watcher)
    for operation in operations(7, "ckpt_{step}.pt"):
        apply(operation, run)
        watcher.touch()
        with anyio.move_on_after(0.9) as patience:
            await anext(stream)
        assert patience.cancelled_caught
    begin = anyio.current_time()

    assert 7 == (await anext(stream)).step
    assert anyio.current_time() - begin < 0.2


async def test_a_finished_checkpoint_is_not_delivered_twice(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Whatever is looked at again.
    """
    stream = follow(run, watcher=watcher)
    for step in range(1, 8):
        save(run, step)
    assert [1, 2, 3, 4, 5, 6, 7] == await steps(stream, watcher)
    for _ in range(3):
        watcher.touch()
        for step in range(1, 8):
            watcher.event(f"checkpoint-{step}", arrived=True)
        assert [] == await steps(stream, watcher)


async def test_every_finished_checkpoint_is_delivered(run: Path, watcher: ManualWatcher) -> None:
    """
    Also those that come while the consumer is busy.
    """
    stream = follow(run, watcher=watcher)
    found = list[int | None]()
    save(run, 1)
    for step in range(2, 10):
        found.append((await anext(stream)).step)
        save(run, step)
        watcher.touch()

    assert [1, 2, 3, 4, 5, 6, 7, 8] == found
    assert [9] == await steps(stream, watcher)


# A queued checkpoint is verified again before it is handed out.


async def queue_of(run: Path, watcher: ManualWatcher, *numbers: int) -> CheckpointStream:
    """
    A stream that has delivered step 0 and has seen, but not delivered, the others.
    """
    for step in (0, *numbers):
        save(run, step)
    stream = follow(run, watcher=watcher)
    assert 0 == (await anext(stream)).step
    assert len(numbers) == run_status(stream).queued
    return stream


async def test_what_is_deleted_in_the_queue_is_missed_once(
    run: Path, watcher: ManualWatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It is not handed out, and is reported with its path and step, in `status()` and in the log.
    """
    stream = await queue_of(run, watcher, 1, 2)
    shutil.rmtree(run / "checkpoint-1")

    assert [2] == await steps(stream, watcher)
    for _ in range(2):
        watcher.touch()
        assert [] == await steps(stream, watcher)
    assert [(1, True)] == missed(stream)
    assert [str(run / "checkpoint-1")] == [item.path for item in run_status(stream).missed]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert 1 == len(warnings)
    assert str(run / "checkpoint-1") in warnings[0].getMessage()


async def test_what_comes_back_after_it_was_missed_is_delivered(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Moved away and back, the same files are news: nobody has had them.
    """
    stream = await queue_of(run, watcher, 1)
    (run / "checkpoint-1").rename(run / "away")
    assert [] == await steps(stream, watcher)
    assert [(1, True)] == missed(stream)
    (run / "away").rename(run / "checkpoint-1")
    watcher.touch()

    assert [1] == await steps(stream, watcher)


async def test_what_is_rewritten_in_the_queue_comes_once(run: Path, watcher: ManualWatcher) -> None:
    """
    Only the new generation; the one that was overwritten is missed.
    """
    stream = await queue_of(run, watcher, 1)
    shutil.rmtree(run / "checkpoint-1")
    save(run, 1)
    generation = str(os.stat(run / "checkpoint-1" / "trainer_state.json").st_mtime_ns)

    (found,) = await drained(stream, watcher)

    assert 1 == found.step
    assert generation in found.generation
    assert [(1, True)] == missed(stream)


@pytest.mark.parametrize("layout", ["hf", "orbax", "tensorflow"])
async def test_what_is_unfinished_again_is_not_handed_out(
    run: Path, watcher: ManualWatcher, layout: str
) -> None:
    """
    A trainer that deletes begins with some file; what is left waits, or is gone.
    """
    for step in (1, 2):
        save(run, step, layout, earlier=range(1, step))
    stream = follow(run, watcher=watcher)
    await anext(stream)
    victims = {
        "hf": ["checkpoint-2/trainer_state.json"],
        "orbax": ["2/_CHECKPOINT_METADATA", "2/commit_success.txt"],
        "tensorflow": ["ckpt-2.index"],
    }[layout]
    contents = {run / name: (run / name).read_bytes() for name in victims}
    for path in contents:
        path.unlink()

    assert [] == await steps(stream, watcher)
    assert 1 == len(run_status(stream).unfinished)
    assert [] == missed(stream)

    for path, content in contents.items():
        path.write_bytes(content)
    if layout == "tensorflow":
        for operation in operations(2, layout, earlier=[1]):
            apply(operation, run)
    watcher.touch()

    assert [2] == await steps(stream, watcher)


async def test_what_cannot_be_read_for_a_moment_is_not_missed(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    An error of the storage is neither "incomplete" nor "deleted".
    """
    stream = await queue_of(run, watcher, 1)

    with failing("stat", errno.EIO, "checkpoint-1"):
        found = await steps(stream, watcher)
        reason = run_status(stream).waiting_for
    assert ([], "Input/output error" in reason) == (found, True)
    assert [] == missed(stream)
    watcher.touch()

    assert [1] == await steps(stream, watcher)


# What was seen but deleted before it could be delivered is missed.


async def test_what_an_event_told_of_and_is_gone_is_missed(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Born and deleted between two looks, with an event.
    """
    save(run, 1)
    stream = follow(run, watcher=watcher)
    assert [1] == await steps(stream, watcher)
    watcher.event("checkpoint-2", arrived=True)
    watcher.event("checkpoint-2")

    assert [] == await steps(stream, watcher)
    assert [(2, False)] == missed(stream)


async def test_what_came_and_went_while_the_user_was_busy_is_missed(run: Path) -> None:
    """
    The kernel keeps its events until the stream is asked again.
    """
    pytest.importorskip("inotify_simple")
    stream = follow(run, watcher="inotify", poll_interval=3600)
    save(run, 1)
    with anyio.fail_after(SECONDS):
        assert 1 == (await anext(stream)).step
        save(run, 2)
        shutil.rmtree(run / "checkpoint-2")
        save(run, 3)
        assert 3 == (await anext(stream)).step

    assert [(2, False)] == missed(stream)


async def test_it_is_missed_also_when_the_directory_is_listed(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    An event that came with an overflow of others counts like any.
    """
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    watcher.event("checkpoint-2", arrived=True)
    watcher.touch()

    assert [] == await steps(stream, watcher)
    assert [(2, False)] == missed(stream)


@pytest.mark.parametrize("until", ["delivered", "seen unfinished"])
async def test_old_news_of_one_that_has_gone(run: Path, watcher: ManualWatcher, until: str) -> None:
    """
    A look may see that it came, and the next one that it went, before the event is read.
    """
    save(run, 1) if until == "delivered" else half_save(run, 1)
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    shutil.rmtree(run / "checkpoint-1")
    watcher.touch()
    await steps(stream, watcher)
    before = missed(stream)
    watcher.event("checkpoint-1", arrived=True)
    await steps(stream, watcher)

    assert before == missed(stream)


async def test_an_aborted_save_is_missed_as_unfinished(run: Path, watcher: ManualWatcher) -> None:
    """
    It was seen, never finished, and is gone.
    """
    half_save(run, 3)
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    shutil.rmtree(run / "checkpoint-3")
    watcher.touch()

    assert [] == await steps(stream, watcher)
    assert [(3, False)] == missed(stream)


@pytest.mark.parametrize("told", [True, False], ids=["by events", "by a listing"])
async def test_the_deletion_of_what_was_delivered_is_nobodys_loss(
    run: Path, watcher: ManualWatcher, told: bool
) -> None:
    """
    Step by step, as a trainer deletes.
    """
    save(run, 1)
    stream = follow(run, watcher=watcher)
    assert [1] == await steps(stream, watcher)
    for file in sorted((run / "checkpoint-1").iterdir()):
        file.unlink()
        watcher.event("checkpoint-1") if told else watcher.touch()
        assert [] == await steps(stream, watcher)
    (run / "checkpoint-1").rmdir()
    watcher.event("checkpoint-1") if told else watcher.touch()

    assert [] == await steps(stream, watcher)
    assert [] == missed(stream)
    assert {} == run_status(stream).unfinished


@pytest.mark.parametrize("name", ["5.orbax-checkpoint-tmp", "notes.txt", "tmp-checkpoint-5"])
async def test_what_is_no_checkpoint_is_not_missed(
    run: Path, watcher: ManualWatcher, name: str
) -> None:
    """
    Temporary names come and go.
    """
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    watcher.event(name, arrived=True)

    assert [] == await steps(stream, watcher)
    assert [] == missed(stream)


async def test_a_hint_is_spent_only_when_its_look_is_merged(run: Path) -> None:
    """
    Cancelled while the look is in flight, the next call takes its result.
    """
    watcher = HeldWatcher()
    watcher.holds = False
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    watcher.holds = True
    save(run, 1)
    watcher.event("checkpoint-1", arrived=True)
    watcher.event("checkpoint-2", arrived=True)
    looks = watcher.looks
    assert [] == await steps(stream, watcher)
    assert (looks + 1, 1) == (watcher.looks, watcher.held)
    assert [] == await steps(stream, watcher)
    assert (looks + 1, 1) == (watcher.looks, watcher.held)
    watcher.holds = False
    watcher.answer()

    assert [1] == await steps(stream, watcher)
    assert [(2, False)] == missed(stream)


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.ESTALE, errno.EACCES])
async def test_a_hint_is_not_spent_by_a_look_that_failed(
    run: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """
    What an event told of is not forgotten because the storage did not answer.
    """
    for step in range(1, 8):
        save(run, step)
    stream = follow(run, watcher=watcher)
    assert 7 == len(await steps(stream, watcher))
    real = os.stat

    def faulty(path: str, **how: bool) -> os.stat_result:
        if os.fspath(path) == str(run):
            raise OSError(number, os.strerror(number), path)
        return real(path, **how)

    save(run, 1)  # Too old to be looked into without a hint.
    watcher.event("checkpoint-1")
    watcher.event("checkpoint-9", arrived=True)
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", faulty)
        assert [] == await steps(stream, watcher)
        assert "cannot be read" in run_status(stream).waiting_for
    watcher.touch()

    assert [1] == await steps(stream, watcher)
    assert [(9, False)] == missed(stream)


class FaultyLayout:
    """
    Somebody's own layout, with a bug.
    """

    name = "faulty"
    error: Exception | None = None

    def match(self, name: str) -> tuple[str, int | None] | None:
        return (name, int(name)) if name.isdigit() else None

    def missing(self, name: str, evidence: Evidence) -> str | None:
        if self.error is not None:
            raise self.error
        return None

    def generation(self, name: str, evidence: Evidence) -> str | None:
        return evidence.fingerprint(name)


async def test_a_layout_that_raises_loses_nothing(run: Path, watcher: ManualWatcher) -> None:
    """
    Its exception reaches the caller, and the stream stays usable.
    """
    layout, error = FaultyLayout(), ZeroDivisionError("a bug")
    stream = follow(run, layout=layout, watcher=watcher)
    assert [] == await steps(stream, watcher)
    (run / "1").touch()
    watcher.event("1", arrived=True)
    watcher.event("2", arrived=True)
    layout.error = error
    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as caught:
            await anext(stream)
        assert error is caught.value
    layout.error = None

    assert [1] == await steps(stream, watcher)
    assert [(2, False)] == missed(stream)


# Progress is kept by path and generation, never by a high-water mark.


async def test_a_lower_step_after_a_rollback_is_delivered(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    A step that goes backwards is a new checkpoint.
    """
    stream = follow(run, watcher=watcher)
    save(run, 30)
    assert [30] == await steps(stream, watcher)
    save(run, 20)
    watcher.touch()

    assert [20] == await steps(stream, watcher)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("first_deleted", [True, False])
async def test_the_same_step_saved_again_is_delivered_again(
    run: Path, watcher: ManualWatcher, layout: str, first_deleted: bool
) -> None:
    """
    With another generation, at the same path.
    """
    stream = follow(run, layout=layout_for(layout), watcher=watcher)
    save(run, 5, layout)
    (first,) = await drained(stream, watcher)
    if first_deleted:
        for path in run.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        watcher.touch()
        assert [] == await steps(stream, watcher)
    save(run, 5, layout)
    watcher.touch()
    (second,) = await drained(stream, watcher)

    assert (first.path, first.step) == (second.path, second.step)
    assert first.generation != second.generation
    assert first != second


def add_beside(run: Path, name: str) -> None:
    (run / f"{name}.eval.json").write_text("{}")
    (run / "eval.json").write_text("{}")


def add_inside(run: Path, name: str) -> None:
    if (run / name).is_dir():
        (run / name / "eval.json").write_text("{}")
        (run / name / "predictions").mkdir(exist_ok=True)
        (run / name / "predictions" / "part-0.txt").write_text("x")


def change_times(run: Path, name: str) -> None:
    os.utime(run, ns=(1, 1))
    if (run / name).is_dir():
        os.utime(run / name, ns=(1, 1))


def rewrite_pointer(run: Path, name: str) -> None:
    if (run / "checkpoint").exists():
        content = (run / "checkpoint").read_bytes()
        (run / "checkpoint").unlink()
        (run / "checkpoint").write_bytes(content)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", [add_beside, add_inside, change_times, rewrite_pointer])
@pytest.mark.parametrize("how", ["told", "listed"])
async def test_what_a_consumer_adds_never_makes_it_new(
    run: Path, watcher: ManualWatcher, layout: str, what: Callable[[Path, str], None], how: str
) -> None:
    """
    Neither `eval.json`, nor a directory's times, nor a pointer shared by all.
    """
    path = Path(save(run, 5, layout))
    stream = follow(run, layout=layout_for(layout), watcher=watcher)
    assert [5] == await steps(stream, watcher)
    what(run, path.name)
    watcher.event(path.name) if how == "told" else watcher.touch()

    assert [] == await steps(stream, watcher)
    assert [] == missed(stream)


@virtual
@pytest.mark.parametrize("layout", ["ckpt_{step}.pt", "ckpt_{step}"])
async def test_what_a_consumer_adds_to_a_settled_one_never_makes_it_new(
    run: Path, watcher: ManualWatcher, layout: str
) -> None:
    """
    It has to settle again, and is the same.
    """
    if layout == "ckpt_{step}":
        save(run, 5, "ckpt_{step}/weights")
        (run / "ckpt_5" / "model.safetensors").write_bytes(bytes(4096))
    else:
        save(run, 5, layout)
    stream = follow(run, layout=layout, watcher=watcher)
    assert 5 == (await anext(stream)).step
    add_inside(run, "ckpt_5")
    watcher.touch()
    with anyio.move_on_after(300) as patience:
        await anext(stream)

    assert patience.cancelled_caught
    assert [] == missed(stream)
    assert {} == run_status(stream).unfinished


@virtual
async def test_the_pointers_word_counts_for_the_generation_it_named(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Written again in place, an older checkpoint is not finished because it was named once.
    """
    save(run, 1, "tensorflow")
    save(run, 2, "tensorflow", earlier=[1])
    stream = follow(run, watcher=watcher)
    assert [1, 2] == [(await anext(stream)).step, (await anext(stream)).step]
    (run / "checkpoint").write_text('model_checkpoint_path: "ckpt-2"\n')
    (run / "ckpt-1.index").write_bytes((run / "ckpt-1.index").read_bytes())
    watcher.touch()
    begin = anyio.current_time()

    assert 1 == (await anext(stream)).step
    assert 0.9 < anyio.current_time() - begin < 1.2


# Directories that are not there, vanish, come back, cannot be read, or move.


async def test_a_directory_that_is_not_there_is_waited_for(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    Never an end, never an endless silence.
    """
    run = tmp_path / "not" / "yet"
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    save(run, 1)
    watcher.touch()

    assert [1] == await steps(stream, watcher)


async def test_a_directory_that_vanishes_and_comes_back_brings_nothing_twice(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    The same files are the same checkpoints, whatever was seen meanwhile.
    """
    save(run, 1)
    save(run, 2)
    stream = follow(run, watcher=watcher)
    assert [1, 2] == await steps(stream, watcher)

    run.rename(run.with_name("away"))
    watcher.touch()
    assert [] == await steps(stream, watcher)
    run.mkdir()
    watcher.touch()
    assert [] == await steps(stream, watcher)
    run.rmdir()
    run.with_name("away").rename(run)
    watcher.touch()
    assert [] == await steps(stream, watcher)
    save(run, 3)
    watcher.touch()

    assert [3] == await steps(stream, watcher)
    assert [] == missed(stream)


async def test_what_is_queued_outlives_a_directory_that_comes_back(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    While the directory is away nothing is handed out, and nothing is given up.
    """
    stream = await queue_of(run, watcher, 1, 2)
    run.rename(run.with_name("away"))
    assert [] == await steps(stream, watcher)
    assert ([], 2) == (missed(stream), run_status(stream).queued)
    run.with_name("away").rename(run)
    watcher.touch()

    assert [1, 2] == await steps(stream, watcher)
    assert [] == missed(stream)


async def test_what_a_recreated_directory_lacks_is_missed(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Deleted with its directory, once.
    """
    stream = await queue_of(run, watcher, 1, 2)
    shutil.rmtree(run)
    watcher.touch()
    assert [] == await steps(stream, watcher)
    save(run, 2)
    watcher.touch()

    assert [2] == await steps(stream, watcher)
    assert [(1, True), (2, True)] == missed(stream)


async def test_what_is_queued_when_the_stream_ends_without_the_directory_is_missed(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    It is never silently lost.
    """
    for step in (0, 1, 2):
        save(run, step)
    stream = follow(run, timeout=5, timeout_fn=lambda: True, watcher=watcher)
    await anext(stream)
    shutil.rmtree(run)
    stream.engine.expiry.answer(True)  # As if the wait had expired: no time passes here.

    assert [] == await rest(stream)
    assert [(1, True), (2, True)] == missed(stream)


async def test_a_directory_recreated_is_followed(run: Path, watcher: ManualWatcher) -> None:
    """
    The same step in a new directory is another checkpoint.
    """
    stream = follow(run, watcher=watcher)
    for _ in range(3):
        save(run, 1)
        watcher.touch()
        assert [1] == await steps(stream, watcher)
        shutil.rmtree(run)
        watcher.touch()
        assert [] == await steps(stream, watcher)
    assert [] == missed(stream)


@pytest.mark.parametrize("function", ["listdir", "stat"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
async def test_a_directory_that_cannot_be_read_is_waited_for(
    run: Path,
    watcher: ManualWatcher,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    number: int,
) -> None:
    """
    The reason stands in `status()`; nothing is lost and nothing comes twice.
    """
    save(run, 1)
    stream = follow(run, watcher=watcher)
    assert [1] == await steps(stream, watcher)
    save(run, 2)
    real = getattr(os, function)

    def faulty(path: str, **how: object) -> object:
        if os.fspath(path) == str(run):
            raise OSError(number, os.strerror(number), path)
        return real(path, **how)

    with monkeypatch.context() as patched:
        patched.setattr(os, function, faulty)
        watcher.touch()
        assert [] == await steps(stream, watcher)
        reason = run_status(stream).waiting_for
    assert f"the directory cannot be read ({os.strerror(number)}: {str(run)!r})" == reason
    watcher.touch()

    assert [2] == await steps(stream, watcher)
    assert [] == missed(stream)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_a_directory_without_permissions_is_waited_for(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    `chmod 000`, and back.
    """
    save(run, 1)
    run.chmod(0)
    stream = follow(run, watcher=watcher)
    try:
        assert [] == await steps(stream, watcher)
    finally:
        run.chmod(0o755)
    watcher.touch()

    assert [1] == await steps(stream, watcher)


async def test_a_dangling_symlink_is_waited_for(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    Until it leads somewhere.
    """
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "run-1")
    stream = follow(link, watcher=watcher)
    assert [] == await steps(stream, watcher)
    assert "the directory is not there yet" == run_status(stream).waiting_for
    save(tmp_path / "run-1", 1)
    watcher.touch()

    assert [1] == await steps(stream, watcher)


async def test_a_moving_symlink_is_followed(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    The path is the one that the caller wrote, wherever it leads.
    """
    link = tmp_path / "current"
    save(tmp_path / "run-1", 1)
    save(tmp_path / "run-2", 1)
    save(tmp_path / "run-2", 2)
    link.symlink_to("run-1")
    stream = follow(link, watcher=watcher)
    assert [str(link / "checkpoint-1")] == [c.path for c in await drained(stream, watcher)]
    (tmp_path / "new").symlink_to("run-2")
    (tmp_path / "new").rename(link)
    watcher.touch()

    expected = [str(link / "checkpoint-1"), str(link / "checkpoint-2")]
    assert expected == [c.path for c in await drained(stream, watcher)]
    link.unlink()
    watcher.touch()
    assert [] == await steps(stream, watcher)
    link.symlink_to("run-1")
    watcher.touch()
    assert [] == missed(stream)


async def test_symlinks_in_a_circle_are_waited_for(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    ELOOP is a fault like any other.
    """
    link = tmp_path / "current"
    link.symlink_to("current")
    stream = follow(link, watcher=watcher)
    assert [] == await steps(stream, watcher)
    link.unlink()
    save(link, 1)
    watcher.touch()

    assert [1] == await steps(stream, watcher)


@pytest.mark.parametrize("inside", [False, True], ids=["the file", "below the file"])
async def test_a_file_where_a_directory_belongs_raises(
    tmp_path: Path, watcher: ManualWatcher, inside: bool
) -> None:
    """
    From the first call, and again until it is a directory; then the stream works.
    """
    file = tmp_path / "run"
    file.touch()
    run = file / "checkpoints" if inside else file
    stream = follow(run, watcher=watcher)
    for _ in range(2):
        with pytest.raises(NotADirectoryError, match="name the directory that holds checkpoints"):
            await anext(stream)
    file.unlink()
    save(run, 1)

    assert [1] == await steps(stream, watcher)


@pytest.mark.parametrize("kind", ["inotify", "poll"])
async def test_a_file_where_a_directory_belongs_raises_in_a_real_loop(
    tmp_path: Path, kind: str
) -> None:
    """
    With `timeout=0` too.
    """
    file = tmp_path / "run"
    file.touch()
    stream = follow(file, timeout=0, watcher="poll" if kind == "poll" else "inotify")
    with pytest.raises(NotADirectoryError):
        await anext(stream)
    file.unlink()
    save(file, 1)

    assert [1] == await rest(stream)


async def test_a_directory_replaced_by_a_file_is_waited_for(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Only the first look refuses: later it is one more thing that passes.
    """
    save(run, 1)
    stream = follow(run, watcher=watcher)
    assert [1] == await steps(stream, watcher)
    shutil.rmtree(run)
    run.touch()
    watcher.touch()
    assert [] == await steps(stream, watcher)
    run.unlink()
    save(run, 2)
    watcher.touch()

    assert [2] == await steps(stream, watcher)


def test_making_a_stream_does_not_touch_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    No call touches it in the event loop; and a path may appear later.
    """

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("touched the disk")

    with monkeypatch.context() as patched:
        for function in ("stat", "lstat", "listdir", "scandir", "open", "readlink"):
            patched.setattr(os, function, forbidden)
        stream = follow(tmp_path / "none")
        text = str(stream.status())

    assert "waiting for the first look" in text


@pytest.mark.parametrize("kind", ["missing", "recreated", "symlink"])
async def test_it_is_noticed_by_events(tmp_path: Path, kind: str) -> None:
    """
    The real watcher sees a path appear, come back, and lead elsewhere, without polling.
    """
    pytest.importorskip("inotify_simple")
    run = tmp_path / "run"
    if kind == "recreated":
        save(run, 1)
    if kind == "symlink":
        save(tmp_path / "elsewhere", 1)
        run.symlink_to("elsewhere")
    stream = follow(run, watcher="inotify")
    with anyio.fail_after(20):
        if kind != "missing":
            assert 1 == (await anext(stream)).step
        found = list[int | None]()

        async def consume() -> None:
            found.append((await anext(stream)).step)

        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await anyio.wait_all_tasks_blocked()
            if kind == "recreated":
                shutil.rmtree(run)
            if kind == "symlink":
                save(tmp_path / "other", 2)
                (tmp_path / "new").symlink_to("other")
                (tmp_path / "new").rename(run)
            else:
                save(run, 2)

    assert [2] == found


# skip_existing: what the first look finds is the baseline.


async def test_skip_existing_passes_over_what_the_first_look_finds(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    It is counted as skipped; what is finished later comes, also what had begun before.
    """
    save(run, 1)
    save(run, 2)
    half_save(run, 3)
    stream = follow(run, skip_existing=True, watcher=watcher)
    assert [] == await steps(stream, watcher)
    assert (2, []) == (run_status(stream).skipped, missed(stream))
    save(run, 3)
    save(run, 1)
    watcher.touch()
    watcher.event("checkpoint-1")

    assert [1, 3] == await steps(stream, watcher)
    assert 2 == run_status(stream).skipped


@virtual
async def test_skip_existing_passes_over_what_is_still_settling(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    It was finished before the first look, which merely cannot tell yet.
    """
    save(run, 1, "ckpt_{step}.pt")
    stream = follow(run, layout="ckpt_{step}.pt", skip_existing=True, timeout=300, watcher=watcher)
    with anyio.move_on_after(0.5):
        await anext(stream)
    assert 0 == run_status(stream).skipped
    save(run, 2, "ckpt_{step}.pt")
    watcher.touch()

    assert [2] == await rest(stream)
    assert (1, []) == (run_status(stream).skipped, missed(stream))


@virtual
async def test_skip_existing_delivers_what_is_still_written_at_the_first_look(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    It was not finished when the baseline was taken.
    """
    first, *others = operations(1, "ckpt_{step}.pt")
    apply(first, run)
    stream = follow(run, layout="ckpt_{step}.pt", skip_existing=True, timeout=300, watcher=watcher)
    with anyio.move_on_after(0.5):
        await anext(stream)
    for operation in others:
        apply(operation, run)
    watcher.touch()

    assert [1] == await rest(stream)


def test_skip_existing_does_not_pass_over_what_comes_after_the_end() -> None:
    """
    Of a run that hung while the stream took its last look; the next stream delivers it.
    """
    ledger = Ledger("run", follow("run", skip_existing=True).engine.options)
    ledger.seal()
    for number in (1, 2):
        look = Look(full=True)
        look.changed[str(number)] = Entry(number, "", (str(number),), None, "generation")
        ledger.merge(look, [], Moment(), float(number))

    assert 1 == ledger.queue.skipped


async def test_skip_existing_of_a_directory_that_is_not_there_skips_nothing(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    The first look has found nothing; all that comes is new.
    """
    stream = follow(tmp_path / "run", skip_existing=True, watcher=watcher)
    assert [] == await steps(stream, watcher)
    save(tmp_path / "run", 1)
    watcher.touch()

    assert [1] == await steps(stream, watcher)


async def test_skip_existing_waits_for_a_look_that_succeeds(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    A directory that cannot be read shows no baseline.
    """
    save(run, 1)
    stream = follow(run, skip_existing=True, watcher=watcher)

    with failing("listdir", errno.EACCES):
        assert [] == await steps(stream, watcher)
    watcher.touch()

    assert [] == await steps(stream, watcher)
    assert 1 == run_status(stream).skipped


# until_step: the stream ends once such a step was delivered, or missed.


async def test_until_step_ends_after_that_step(run: Path, watcher: ManualWatcher) -> None:
    """
    And not before; for good.
    """
    stream = follow(run, until_step=5, watcher=watcher)
    save(run, 4)
    assert [4] == await steps(stream, watcher)
    save(run, 5)
    watcher.touch()
    assert 5 == (await anext(stream)).step
    save(run, 6)
    watcher.touch()
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    assert "every run has reached until_step" == stream.status().ended


async def test_until_step_is_reached_by_a_later_step(run: Path, watcher: ManualWatcher) -> None:
    """
    Where that very step is never saved.
    """
    for step in (3, 7, 9):
        save(run, step)

    assert [3, 7] == await rest(follow(run, until_step=5, watcher=watcher))


async def test_until_step_delivers_what_is_queued_up_to_it_first(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Events may have told of the last one first.
    """
    stream = follow(run, until_step=5, watcher=watcher)
    assert [] == await steps(stream, watcher)
    for step in (5, 8, 3, 4):
        save(run, step)
        watcher.event(f"checkpoint-{step}", arrived=True)

    assert [5, 3, 4] == await rest(stream)


async def test_until_step_is_reached_by_a_finished_one_that_was_missed(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    It will not come again: waiting for it would never end.
    """
    for step in (1, 5):
        save(run, step)
    stream = follow(run, until_step=5, watcher=watcher)
    await anext(stream)
    shutil.rmtree(run / "checkpoint-5")

    assert [] == await rest(stream)
    assert [(5, True)] == missed(stream)


@pytest.mark.parametrize("seen", ["by a look", "by an event"])
async def test_until_step_is_not_reached_by_an_aborted_save(
    run: Path, watcher: ManualWatcher, seen: str
) -> None:
    """
    The trainer will save that step again.
    """
    stream = follow(run, until_step=5, watcher=watcher)
    assert [] == await steps(stream, watcher)
    if seen == "by a look":
        half_save(run, 5)
        watcher.touch()
        assert [] == await steps(stream, watcher)
        shutil.rmtree(run / "checkpoint-5")
        watcher.touch()
    else:
        watcher.event("checkpoint-5", arrived=True)
    assert [] == await steps(stream, watcher)
    assert ([(5, False)], None) == (missed(stream), stream.status().ended)
    save(run, 5)
    watcher.touch()

    assert [5] == await rest(stream)


async def test_until_step_is_not_reached_by_the_baseline(run: Path, watcher: ManualWatcher) -> None:
    """
    What is passed over was not delivered.
    """
    save(run, 5)
    stream = follow(run, until_step=5, skip_existing=True, watcher=watcher)
    assert [] == await steps(stream, watcher)
    assert stream.status().ended is None
    save(run, 6)
    watcher.touch()

    assert [6] == await rest(stream)


# A cancelled call loses nothing.

SCHEDULER_STEPS = 60


async def consume(stream: CheckpointStream, found: list[int | None]) -> None:
    async for checkpoint in stream:
        found.append(checkpoint.step)


def interrupted_stream(run: Path, real: bool, ends: str) -> CheckpointStream:
    watcher = None if real else ManualWatcher()
    if ends == "timeout":
        return follow(run, timeout=0, watcher=watcher or "auto")
    return follow(run, until_step=3, watcher=watcher or "auto")


@pytest.mark.parametrize("real", [False, True], ids=["inline looks", "threads"])
@pytest.mark.parametrize("ends", ["timeout", "until_step"])
async def test_cancelled_by_a_scope_anywhere_it_loses_and_repeats_nothing(
    run: Path, real: bool, ends: str
) -> None:
    """
    After any number of scheduler steps, at any of the checkpoints.
    """
    for step in (1, 2, 3):
        save(run, step)
    results = list[list[int | None]]()
    for count in range(SCHEDULER_STEPS):
        stream, found = interrupted_stream(run, real, ends), list[int | None]()
        async with anyio.create_task_group() as group:
            group.start_soon(consume, stream, found)
            for _ in range(count):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        await consume(stream, found)
        results.append(found)

    assert [[1, 2, 3]] * SCHEDULER_STEPS == results


@pytest.mark.parametrize("real", [False, True], ids=["inline looks", "threads"])
@pytest.mark.parametrize("ends", ["timeout", "until_step"])
@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_cancelled_natively_anywhere_it_loses_and_repeats_nothing(
    run: Path, real: bool, ends: str
) -> None:
    """
    `task.cancel()` once, after any number of scheduler steps.
    """
    for step in (1, 2, 3):
        save(run, step)
    results = list[list[int | None]]()
    for count in range(SCHEDULER_STEPS):
        stream, found = interrupted_stream(run, real, ends), list[int | None]()
        task = asyncio.create_task(consume(stream, found))
        for _ in range(count):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await consume(stream, found)
        results.append(found)

    assert [[1, 2, 3]] * SCHEDULER_STEPS == results


async def test_cancelled_at_every_checkpoint_it_comes_from_the_next_call(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    One cancelled call before each delivery, with the checkpoint ready to be taken.
    """
    stream = follow(run, watcher=watcher)
    found = list[int | None]()
    for step in range(1, 6):
        save(run, step)
        watcher.touch()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(stream)
        assert scope.cancelled_caught
        found.append((await anext(stream)).step)

    assert [1, 2, 3, 4, 5] == found


async def test_a_cancelled_call_leaves_one_look_in_flight_at_most(run: Path) -> None:
    """
    However often it is asked for and cancelled.
    """
    watcher = HeldWatcher()
    save(run, 1)
    stream = follow(run, watcher=watcher)
    for _ in range(5):
        assert [] == await steps(stream, watcher)
        stream.wake()
        assert (1, 1) == (watcher.looks, watcher.held)
    watcher.holds = False
    watcher.answer()

    assert [1] == await steps(stream, watcher)


# Calls, tasks, and the end.


async def test_two_tasks_at_once_are_refused(run: Path, watcher: ManualWatcher) -> None:
    """
    The second one gets `BusyResourceError`, which says what to do, and the first goes on.
    """
    stream = follow(run, watcher=watcher)
    found = list[int | None]()

    async def wait() -> None:
        found.append((await anext(stream)).step)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await watcher.waiting()
        with pytest.raises(anyio.BusyResourceError, match="let one task ask, and hand them to the"):
            await anext(stream)
        save(run, 1)
        watcher.touch()

    assert [1] == found


@pytest.mark.parametrize("real", [False, True], ids=["inline looks", "threads"])
async def test_aclose_from_another_task_ends_the_waiting_one(
    run: Path, watcher: ManualWatcher, real: bool
) -> None:
    """
    The waiter gets `StopAsyncIteration`; closing again is nothing.
    """
    stream = follow(run, watcher="auto" if real else watcher)
    ended = list[str]()

    async def wait() -> None:
        try:
            await anext(stream)
        except StopAsyncIteration:
            ended.append("ended")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            if real:
                await anyio.wait_all_tasks_blocked()
            else:
                await watcher.waiting()
            await stream.aclose()
            await stream.aclose()

    assert (["ended"], "it was closed") == (ended, stream.status().ended)


async def test_aclose_while_a_look_is_in_flight(run: Path) -> None:
    """
    Its answer comes too late, and hurts nobody.
    """
    watcher = HeldWatcher()
    save(run, 1)
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    await stream.aclose()
    watcher.answer()

    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_aclose_and_an_answer_at_the_same_time(run: Path) -> None:
    """
    A waiter that is woken by both has ended.
    """
    watcher = HeldWatcher()
    save(run, 1)
    stream = follow(run, watcher=watcher)
    found = list[int | None]()
    async with anyio.create_task_group() as group:
        group.start_soon(consume, stream, found)
        await watcher.waiting()
        watcher.answer()
        await stream.aclose()

    assert [] == found


async def test_an_ended_stream_keeps_ending(run: Path, watcher: ManualWatcher) -> None:
    """
    `StopAsyncIteration`, now and ever after, whatever happens.
    """
    save(run, 1)
    stream = follow(run, watcher=watcher)
    await stream.aclose()
    for step in (2, 3):
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        save(run, step)
        watcher.touch()
        stream.wake()


async def test_leaving_the_block_ends_the_stream(run: Path, watcher: ManualWatcher) -> None:
    """
    `async with` closes, also when what is inside it raises.
    """
    save(run, 1)
    stream = follow(run, watcher=watcher)

    async def evaluate() -> None:
        async with stream:
            async for _ in stream:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await evaluate()

    assert "its block was left" == stream.status().ended
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_break_leaves_nothing(run: Path) -> None:
    """
    No task, no thread at work, no descriptor: the fixture of every test looks for them.
    """
    save(run, 1)
    with anyio.fail_after(20):
        async for checkpoint in follow(run):
            assert isinstance(checkpoint, Checkpoint)
            break
        for _ in range(3):
            async for _ in follow(run, layout="hf"):
                break


async def test_a_stream_can_be_iterated_again_after_break(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    It is not a generator: `break` does not end it.
    """
    for step in (1, 2, 3):
        save(run, step)
    stream = follow(run, watcher=watcher)
    async for checkpoint in stream:
        assert 1 == checkpoint.step
        break

    assert [2, 3] == await steps(stream, watcher)


async def test_wake_makes_a_waiting_stream_look(run: Path, watcher: ManualWatcher) -> None:
    """
    Without an event, synchronously.
    """
    stream = follow(run, watcher=watcher)
    found = list[int | None]()

    async def wait() -> None:
        found.append((await anext(stream)).step)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await watcher.waiting()
        save(run, 1)
        stream.wake()

    assert [1] == found


async def test_wake_between_two_calls_is_remembered(run: Path, watcher: ManualWatcher) -> None:
    """
    The next call looks.
    """
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    save(run, 1)
    assert [] == await steps(stream, watcher)
    stream.wake()

    assert [1] == await steps(stream, watcher)
