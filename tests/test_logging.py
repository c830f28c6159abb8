"""
"No silence": each new reason for waiting is one INFO record, what needs a person one WARNING.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from observing import until
from steering import HeldWatcher, failing, half_save, run_status, steps, virtual

from ckptstream import follow
from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio


class Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records = list[logging.LogRecord]()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """
    All records of the package, from INFO on; no logger has another name.
    """
    root, recorder = logging.getLogger(), Recorder()
    level = root.level
    root.addHandler(recorder)
    root.setLevel(logging.INFO)
    yield recorder.records
    root.setLevel(level)
    root.removeHandler(recorder)
    assert set() == {r.name for r in recorder.records if not r.name.startswith("ckptstream.")}


def told(records: list[logging.LogRecord], level: int, run: Path) -> list[str]:
    """
    What was said of the run at one level.
    """
    texts = [record.getMessage() for record in records if record.levelno == level]
    return [text.removeprefix(f"{run}: ") for text in texts]


async def test_each_new_reason_for_waiting_is_one_info_record(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    While a task is blocked in `async for`, and not again while nothing changes.
    """
    stream = follow(run, watcher=watcher)

    async def happens() -> None:
        for _ in range(3):
            watcher.touch()
            await steps(stream, watcher)

    await happens()
    half_save(run, 1)
    await happens()
    save(run, 1)
    await happens()
    shutil.rmtree(run)
    await happens()
    save(run, 2)
    await happens()

    assert [
        "waiting for the first look",
        "waiting for the first checkpoint",
        "waiting for checkpoint-1: trainer_state.json is not whole",
        "waiting for the next checkpoint",
        "the directory is gone",
        "waiting for the next checkpoint",
    ] == told(records, logging.INFO, run)


async def test_after_the_last_of_a_backlog_it_says_that_it_waits(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    Without a further look: nothing may happen for hours.
    """
    save(run, 1)
    stream = follow(run, watcher=watcher)
    assert [1] == await steps(stream, watcher)

    assert "waiting for the next checkpoint" == told(records, logging.INFO, run)[-1]


@pytest.mark.parametrize("finished", [1, 2, 5])
async def test_after_a_backlog_that_took_long_it_says_what_it_waits_for(
    run: Path, records: list[logging.LogRecord], finished: int
) -> None:
    """
    What was found while the evaluation of another one went on.
    """
    for step in range(finished):
        save(run, step)
    half_save(run, 100)
    waits = "waiting for checkpoint-100: trainer_state.json is not whole"
    async with follow(run) as stream:
        for step in range(finished):
            assert step == (await anext(stream)).step
            await anyio.sleep(0.03)  # A look that was made before counts as fresh for 0.02 s.
        async with anyio.create_task_group() as group:
            group.start_soon(anext, stream)
            await until(lambda: waits in told(records, logging.INFO, run))
            group.cancel_scope.cancel()


async def test_the_end_is_one_record(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    With the reason.
    """
    stream = follow(run, timeout=0, watcher=watcher)
    await steps(stream, watcher)
    await stream.aclose()

    texts = told(records, logging.INFO, run)
    assert ["the stream has ended: the timeout has expired"] == [
        text for text in texts if "ended" in text
    ]


async def test_a_healthy_run_gives_no_warning(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    Nor does a checkpoint that is written, or deleted once delivered.
    """
    stream = follow(run, watcher=watcher)
    for step in range(1, 6):
        half_save(run, step)
        watcher.touch()
        await steps(stream, watcher)
        save(run, step)
        watcher.touch()
        assert [step] == await steps(stream, watcher)
        shutil.rmtree(run / f"checkpoint-{step}")
        watcher.touch()
        await steps(stream, watcher)

    assert [] == told(records, logging.WARNING, run)


async def test_no_such_directory_is_one_warning(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    With the remedy; not one per look.
    """
    run.rmdir()
    stream = follow(run, watcher=watcher)
    for _ in range(3):
        watcher.touch()
        await steps(stream, watcher)

    expected = f"the directory is not there yet: check the path, {str(run)!r}"
    assert [expected] == told(records, logging.WARNING, run)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.ETIMEDOUT])
async def test_an_unreadable_directory_is_one_warning(
    run: Path,
    watcher: ManualWatcher,
    records: list[logging.LogRecord],
    number: int,
) -> None:
    """
    In the system's words, with the remedy.
    """

    stream = follow(run, watcher=watcher)
    with failing("listdir", number):
        for _ in range(3):
            watcher.touch()
            await steps(stream, watcher)

    reason = f"the directory cannot be read ({os.strerror(number)}: {str(run)!r})"
    remedy = "it is waited for; check its permissions and its mount"
    assert [f"{reason}: {remedy}"] == told(records, logging.WARNING, run)


async def test_an_unreadable_checkpoint_is_one_warning(
    run: Path,
    watcher: ManualWatcher,
    records: list[logging.LogRecord],
) -> None:
    """
    It will not become readable by itself.
    """
    save(run, 1)

    stream = follow(run, watcher=watcher)
    with failing("stat", errno.EACCES, "checkpoint-1"):
        for _ in range(3):
            watcher.touch()
            await steps(stream, watcher)

    (warning,) = told(records, logging.WARNING, run)
    assert warning.startswith("checkpoint-1 cannot be read: Permission denied: ")
    assert warning.endswith(": it is waited for; check its permissions and its mount")


async def test_nothing_recognised_is_one_warning(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    With what can be done.
    """
    (run / "notes.txt").touch()
    stream = follow(run, watcher=watcher)
    for _ in range(3):
        watcher.touch()
        await steps(stream, watcher)

    (warning,) = told(records, logging.WARNING, run)
    assert warning.startswith("its only entry is not recognised as a checkpoint ('notes.txt'): ")
    assert "layout='step_{step}/DONE'" in warning


async def test_checkpoints_one_level_below_are_pointed_at(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    The commonest mistake: the directory above.
    """
    for name in ("a", "b"):
        save(run / name, 1)
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)

    (warning,) = told(records, logging.WARNING, run)
    assert warning.endswith(f": 2 sub-directories hold checkpoints: follow {str(run / '*')!r}")


async def test_runs_that_are_called_like_checkpoints_are_pointed_at(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    `seed_1` could be Orbax's, and holds checkpoints itself.
    """
    save(run / "seed_1", 1)
    stream = follow(run, watcher=watcher)
    for _ in range(3):
        watcher.touch()
        await steps(stream, watcher)

    (warning,) = told(records, logging.WARNING, run)
    assert warning.endswith(f": 1 sub-directory holds checkpoints: follow {str(run / 'seed_1')!r}")


async def test_a_missed_checkpoint_is_one_warning(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    Finished or not, with the remedy.
    """
    for step in (1, 2):
        save(run, step)
    half_save(run, 3)
    stream = follow(run, watcher=watcher)
    await anext(stream)
    shutil.rmtree(run / "checkpoint-2")
    shutil.rmtree(run / "checkpoint-3")
    for _ in range(3):
        watcher.touch()
        await steps(stream, watcher)

    remedy = "have the trainer keep more checkpoints, or pin them: pin=True"
    aborted = "it may have been an aborted save"
    assert {
        f"{run / 'checkpoint-2'}: missed, it was finished, but deleted or overwritten "
        f"before it could be delivered; {remedy}",
        f"{run / 'checkpoint-3'}: missed, it was deleted before it was seen finished; {aborted}",
    } == set(told(records, logging.WARNING, run))
    assert 2 == len(told(records, logging.WARNING, run))


async def test_many_missed_at_once_are_summed_up(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    The log stays readable.
    """
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    for step in range(10):
        watcher.event(f"checkpoint-{step}", arrived=True)
    await steps(stream, watcher)

    warnings = told(records, logging.WARNING, run)
    assert 4 == len(warnings)
    assert warnings[-1].startswith("7 more were missed; ")


class ExhaustedSubscription:
    disturbed = False

    def arm(self, path: str, meaning: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def keep(self, wanted: object) -> None:
        pass


async def test_the_fallback_to_polling_is_one_warning(
    run: Path,
    watcher: ManualWatcher,
    records: list[logging.LogRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    It names the kernel's limit.
    """
    monkeypatch.setattr(watcher, "subscribe", lambda listener: ExhaustedSubscription())
    stream = follow(run, watcher=watcher)
    for _ in range(3):
        stream.wake()
        await steps(stream, watcher)

    expected = "fs.inotify.max_user_watches is exhausted: polling instead; raise it with sysctl"
    assert [expected] == told(records, logging.WARNING, run)
    assert "poll" == stream.status().runs[0].watcher


@virtual
@pytest.mark.parametrize("queued", [False, True])
async def test_storage_that_does_not_answer_is_one_warning(
    run: Path, records: list[logging.LogRecord], queued: bool
) -> None:
    """
    Also while finished checkpoints wait to be verified.
    """
    watcher = HeldWatcher()
    watcher.holds, watcher.hangs = False, True
    for step in (1, 2) if queued else (1,):
        save(run, step)
    stream = follow(run, watcher=watcher)
    await anext(stream)
    watcher.holds = True
    stream.wake()
    for _ in range(3):
        with anyio.move_on_after(5):
            await anext(stream)

    (warning,) = told(records, logging.WARNING, run)
    assert warning.startswith("the storage does not answer; ")
    watcher.holds = False
    watcher.answer()
    await steps(stream, watcher)


async def test_names_that_are_not_utf8_can_be_logged(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    To a file of any encoding that is not stricter than UTF-8.
    """
    (run / f"{os.fsdecode(bytes([255]))}-5.index").write_bytes(b"x")
    stream = follow(run, layout="tensorflow", watcher=watcher)
    await steps(stream, watcher)

    texts = [record.getMessage() for record in records]
    assert texts == [text.encode().decode() for text in texts]
    assert any("-5.index" in text for text in texts)


async def test_evidence_that_no_checkpoint_has_is_one_warning(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    One may be being written; that several lack the marker is the wrong layout.
    """
    for step in (1, 2):
        save(run, step)
    stream = follow(run, layout="checkpoint-{step}/DONE", watcher=watcher)
    await steps(stream, watcher)

    expected = (
        "2 checkpoints, none of them finished (checkpoint-1: no DONE): "
        "is layout='checkpoint-{step}/DONE' right? For hf they are finished: try layout='hf'"
    )
    assert [expected] == told(records, logging.WARNING, run)


@virtual
async def test_those_that_have_still_to_settle_are_no_warning(
    run: Path, watcher: ManualWatcher, records: list[logging.LogRecord]
) -> None:
    """
    However many there are: they come fast.
    """
    stream = follow(run, layout="ckpt_{step}.pt", watcher=watcher)
    assert [] == await steps(stream, watcher)
    for step in (1, 2):
        save(run, step, "ckpt_{step}.pt")
    watcher.touch()
    with anyio.move_on_after(0.5):
        await anext(stream)
    assert 2 == len(run_status(stream).unfinished)
    assert [] == told(records, logging.WARNING, run)
    assert [1, 2] == [(await anext(stream)).step, (await anext(stream)).step]
