"""
What a stream over patterns says: its status in rows, in text and as a table, and its log records.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from observing import linux, until
from steering import HeldWatcher, drained
from sweeping import came, finish, news, reading, runs_of, sweep_of

from ckptstream import CheckpointStream, PatternStatus
from ckptstream.testing import ManualWatcher

pytestmark = pytest.mark.anyio

Records = Callable[[int], list[str]]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> Records:
    """
    What was logged at one level, with paths as they lie below the test's own.
    """
    caplog.set_level(logging.INFO, "ckptstream")

    def new(level: int) -> list[str]:
        records = [record for record in caplog.records if record.levelno == level]
        return [record.getMessage().replace(f"{tmp_path}/", "") for record in records]

    return new


def pattern_of(stream: CheckpointStream) -> PatternStatus:
    """
    What the stream knows of its one pattern.
    """
    (pattern,) = stream.status().patterns
    return pattern


# status()


async def test_a_row_for_each_pattern_and_each_run(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    Before the first look there is no run; then there are those that match.
    """
    finish(tmp_path, ("x", 1), ("y", 2), ("y", 3))
    stream = sweep_of(tmp_path / "*", tmp_path / "none-*", watcher=watcher)
    before = stream.status()
    await drained(stream, watcher)
    after = stream.status()

    assert ["waiting for the first look"] * 2 == [row.waiting_for for row in before.patterns]
    assert [(None, "", None, None)] * 2 == [
        (row.watcher, row.watcher_reason, row.last_look, row.unanswered) for row in before.patterns
    ]
    assert ((), 0) == (before.runs, before.patterns[0].runs)
    assert [
        (f"{tmp_path}/*", 2, "2 runs"),
        (f"{tmp_path}/none-*", 0, "no directory matches yet"),
    ] == [(row.pattern, row.runs, row.waiting_for) for row in after.patterns]
    assert ["inotify"] * 2 == [row.watcher for row in after.patterns]
    assert [
        (f"{tmp_path}/{run}", f"{tmp_path}/{run}/step_{step}") for run, step in ("x1", "y3")
    ] == [(row.run, str(row.newest)) for row in after.runs]


async def test_its_text_and_its_table(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    One line for each pattern before the runs; both can be pickled.
    """
    finish(tmp_path, ("<x>", 1))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    await drained(stream, watcher)
    status = stream.status()
    first, second, *_ = str(status).splitlines()
    table = status._repr_html_()

    assert first.startswith(f"{tmp_path}/*: 1 run (inotify: ")
    assert first.endswith(" is local, seen 0.0 s ago)")
    assert second.startswith(f"{tmp_path}/<x>: waiting for the next checkpoint (inotify: ")
    assert str(status.patterns[0]) == first
    assert (1, 3) == (table.count("<table>"), table.count("<tr>"))
    assert f"<td>{tmp_path}/*</td><td>1 run</td>" in table
    assert "&lt;x&gt;" in table
    assert status == pickle.loads(pickle.dumps(status))


async def test_a_run_that_left_has_a_row_if_something_was_missed(
    tmp_path: Path, watcher: ManualWatcher, said: Records
) -> None:
    """
    Each queued checkpoint of it once, in the status and in the log; else it has none.
    """
    finish(tmp_path, ("lost", 1), ("lost", 2), ("seen", 1))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    while {"lost"} != {Path(run.run).name for run in stream.status().runs if run.queued}:
        checkpoint = await anext(stream)
        if checkpoint.run.endswith("lost"):
            delivered = checkpoint.step
    shutil.rmtree(tmp_path / "lost")
    shutil.rmtree(tmp_path / "seen")
    assert [] == await news(stream, watcher, tmp_path)
    (lost,) = stream.status().runs
    for _ in range(3):
        assert [] == await news(stream, watcher, tmp_path)

    assert (1, 2, 1) == (delivered, lost.missed[0].step, lost.missed_count)
    assert (True, 0, "the directory is gone") == (
        lost.missed[0].finished,
        lost.queued,
        lost.waiting_for,
    )
    assert f"{tmp_path}/lost: the directory is gone" in str(stream.status())
    assert 1 == len(stream.status().runs)
    missed = [text for text in said(logging.WARNING) if "missed" in text]
    assert ["lost/step_2: missed, it was finished, but deleted"] == [m[:49] for m in missed]
    assert "no directory matches" == pattern_of(stream).waiting_for


async def test_what_was_missed_comes_when_the_run_is_back(
    tmp_path: Path, watcher: ManualWatcher, said: Records
) -> None:
    """
    It is new then; the row goes on from where it was.
    """
    finish(tmp_path, ("x", 1), ("x", 2))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    await anext(stream)
    (tmp_path / "x").rename(tmp_path / ".x")
    gone = await news(stream, watcher, tmp_path)
    (tmp_path / ".x").rename(tmp_path / "x")
    back = await news(stream, watcher, tmp_path)
    (row,) = stream.status().runs

    assert ([], [("x", 2)]) == (gone, back)
    assert (1, "waiting for the next checkpoint") == (row.missed_count, row.waiting_for)
    assert 1 == len([text for text in said(logging.WARNING) if "missed" in text])


async def test_a_pattern_says_why_it_has_no_run(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    None yet, none any more, or the root is gone.
    """
    root = tmp_path / "sweeps"
    root.mkdir()
    stream, reasons = sweep_of(root / "*", watcher=watcher), list[str]()
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: finish(root, ("x", 1)),
        lambda: shutil.rmtree(root / "x"),
        lambda: shutil.rmtree(root),
        lambda: finish(root, ("x", 2), ("y", 1)),
    ]
    for change in changes:
        change()
        await news(stream, watcher, root)
        reasons.append(pattern_of(stream).waiting_for)

    assert [
        "no directory matches yet",
        "1 run",
        "no directory matches",
        "the directory is gone",
        "2 runs",
    ] == reasons


async def test_a_pattern_whose_root_hangs(tmp_path: Path, said: Records) -> None:
    """
    It is named, with one WARNING; `timeout` does not wait for it.
    """
    watcher = HeldWatcher()
    watcher.hangs = True
    finish(tmp_path, ("x", 1))
    stream = sweep_of(tmp_path / "*", timeout=0, watcher=watcher)

    assert [] == [checkpoint async for checkpoint in stream]
    assert "the storage does not answer" == pattern_of(stream).waiting_for
    assert pattern_of(stream).unanswered is not None
    watcher.answer()


# The log.


async def test_each_that_joins_and_leaves_is_one_info_record(
    tmp_path: Path, watcher: ManualWatcher, said: Records
) -> None:
    """
    Also when it comes back; nothing needs a person.
    """
    finish(tmp_path, ("x", 1), ("y", 1))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    for _ in range(2):
        await news(stream, watcher, tmp_path)
    (tmp_path / "x").rename(tmp_path / ".x")
    for _ in range(2):
        await news(stream, watcher, tmp_path)
    (tmp_path / ".x").rename(tmp_path / "x")
    await news(stream, watcher, tmp_path)

    told = [text for text in said(logging.INFO) if "has " in text]
    assert ["x: has joined", "y: has joined"] == told[:2]
    assert ["x: has left: its directory is gone", "x: has joined"] == told[2:]
    assert [] == said(logging.WARNING)


async def test_no_directory_matches_yet_is_one_warning(
    tmp_path: Path, watcher: ManualWatcher, said: Records
) -> None:
    """
    With what to do; one that matched before is no cause for it.
    """
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    for _ in range(3):
        await news(stream, watcher, tmp_path)
    warned = said(logging.WARNING)
    finish(tmp_path, ("x", 1))
    await news(stream, watcher, tmp_path)
    shutil.rmtree(tmp_path / "x")
    await news(stream, watcher, tmp_path)

    expected = ["*: no directory matches yet: if there should be some, check the pattern"]
    assert expected == warned == said(logging.WARNING)


@pytest.mark.parametrize(
    ("path", "wildcard"),
    [("x-?", "?"), ("x-[12]/*", "["), ("*/{a,b}/ckpt", "{"), ("x-?/*", "?"), ("x-[!1]*", "[")],
)
async def test_the_wildcards_of_a_shell_are_none(
    tmp_path: Path, watcher: ManualWatcher, said: Records, path: str, wildcard: str
) -> None:
    """
    The status and the one WARNING say so where nothing is found.
    """
    finish(tmp_path, ("x-1/a/ckpt", 1))
    stream = sweep_of(tmp_path / path, watcher=watcher)
    for _ in range(3):
        await news(stream, watcher, tmp_path)

    text = f"('*' is the only wildcard, {wildcard!r} is none)"
    (warned,) = said(logging.WARNING)
    assert warned.startswith(f"{path}: ")
    assert [1, 1] == [str(stream.status()).count(text), warned.count(text)]


async def test_a_directory_whose_name_looks_like_a_shells_pattern(
    tmp_path: Path, watcher: ManualWatcher, said: Records
) -> None:
    """
    It is one like any other.
    """
    finish(tmp_path, ("x-[1]?", 1))
    stream = sweep_of(tmp_path / "x-[1]?", watcher=watcher)

    assert [("x-[1]?", 1)] == await news(stream, watcher, tmp_path)
    assert ([], 0) == (said(logging.WARNING), str(stream.status()).count("wildcard"))


async def test_a_part_that_cannot_be_read_is_told(
    tmp_path: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch, said: Records
) -> None:
    """
    One WARNING that names it: what lies there would be waited for in silence.
    """
    finish(tmp_path, ("bad/ckpt", 1), ("good/ckpt", 1))
    stream = sweep_of(tmp_path / "*/ckpt", watcher=watcher)

    def stat(path: str) -> os.stat_result:
        if "/bad/" in path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return os.stat(path)

    class Os:
        def __getattr__(self, name: str) -> object:
            return stat if name == "stat" else getattr(os, name)

    monkeypatch.setattr("ckptstream._scan._directories.os", Os())
    for _ in range(3):
        await news(stream, watcher, tmp_path)

    (warned,) = said(logging.WARNING)
    assert ("bad" in warned, "Permission denied" in warned) == (True, True)


@linux
async def test_a_pattern_without_a_watch_is_polled_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Records
) -> None:
    """
    The kernel had watches for the runs but none for the root: one WARNING, and runs still join.
    """
    from inotify_simple import INotify

    real = INotify.add_watch

    def add_watch(self: INotify, path: str, mask: int) -> int:
        if str(path) == str(tmp_path):
            raise OSError(errno.ENOSPC, "no space")
        return real(self, path, mask)

    monkeypatch.setattr(INotify, "add_watch", add_watch)
    finish(tmp_path, ("x", 1))
    async with reading(sweep_of(tmp_path / "*", poll_interval=0.01), tmp_path) as reader:
        await until(lambda: [("x", 1)] == reader.got)
        finish(tmp_path, ("y", 1))
        await until(lambda: ("y", 1) in reader.got)
        pattern, runs = pattern_of(reader.stream), reader.stream.status().runs

    exhausted = "fs.inotify.max_user_watches is exhausted"
    assert ("poll", exhausted) == (pattern.watcher, pattern.watcher_reason)
    assert ["inotify", "inotify"] == [run.watcher for run in runs]
    (warned,) = said(logging.WARNING)
    assert f"{exhausted}: polling instead; raise it with sysctl" in warned


async def test_names_that_are_not_utf8_can_be_logged(
    tmp_path: Path, watcher: ManualWatcher, said: Records
) -> None:
    """
    Also of a run that joins and leaves with something missed.
    """
    odd = os.fsdecode(b"\xff")
    finish(tmp_path, (odd, 1), (odd, 2))
    stream = sweep_of(f"{tmp_path}/*", f"{tmp_path}/{odd}*/none", watcher=watcher)
    await anext(stream)
    shutil.rmtree(tmp_path / odd)
    await came(stream, watcher, tmp_path)
    await news(stream, watcher, tmp_path)

    texts = said(logging.INFO) + said(logging.WARNING)
    assert texts == [text.encode().decode() for text in texts]
    assert "\\xff: has left: its directory is gone" in str(texts).replace("\\\\udc", "\\x")
    assert [odd] == runs_of(stream, tmp_path)


def test_repr_names_what_is_followed(tmp_path: Path) -> None:
    """
    Patterns first; of many only the first few.
    """
    few = sweep_of("runs/x", "sweeps/*")
    many = sweep_of(*(f"runs/{number}" for number in range(100)))

    assert "<CheckpointStream of 'sweeps/*', 'runs/x'>" == repr(few)
    assert "<CheckpointStream of 'runs/0', 'runs/1', 'runs/2' and 97 more>" == repr(many)
