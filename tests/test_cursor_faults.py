"""
Cursor files that cannot be used: the error names the file and says what to do, and the file and
all that lies beside it stay as they were.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from observing import SECONDS, mark_done
from steering import rest
from sweeping import LAYOUT

import ckptstream
from ckptstream import Checkpoint, CheckpointStream, CursorError
from ckptstream._cursor import _schema

pytestmark = pytest.mark.anyio

Damage = Callable[[Path], None]
Files = dict[str, bytes]

PAGE = 4096


@pytest.fixture
def anyio_backend() -> str:
    """
    Threads have to do with files; the event loop has not.
    """
    return "asyncio"


@pytest.fixture
def cursor(tmp_path: Path) -> Path:
    """
    Where the cursor file will be, in a directory of its own.
    """
    path = tmp_path / "kept" / "evals.db"
    path.parent.mkdir()
    return path


def follow(run: Path, cursor: Path, **options: Any) -> CheckpointStream:
    """
    A stream that ends after one complete look.
    """
    return ckptstream.follow(run, cursor=cursor, **{"layout": LAYOUT, "timeout": 0, **options})


async def all_of(run: Path, cursor: Path) -> list[int | None]:
    """
    The steps of all that comes in a block of its own.
    """
    async with follow(run, cursor) as stream:
        return await rest(stream)


def files(cursor: Path) -> Files:
    """
    The file and all that lies beside it, byte for byte.
    """
    return {path.name: path.read_bytes() for path in cursor.parent.iterdir() if path.is_file()}


async def refused(run: Path, cursor: Path) -> str:
    """
    What is said of a file that is not touched.
    """
    before = files(cursor)
    with pytest.raises(CursorError) as caught:
        await all_of(run, cursor)
    assert before == files(cursor)
    assert str(cursor) == caught.value.path
    prefix, path, said = str(caught.value).partition(f"{str(cursor)!r}: ")
    assert ("cursor ", True) == (prefix, bool(path))
    return said


async def use(run: Path, cursor: Path) -> None:
    """
    A cursor in which three checkpoints are done.
    """
    for step in (1, 2, 3):
        mark_done(run, step)
    assert [1, 2, 3] == await all_of(run, cursor)


async def use_and_kill(run: Path, cursor: Path) -> None:
    """
    The same of an evaluator that was killed then, with a fourth one out.
    """
    for step in (1, 2, 3, 4):
        mark_done(run, step)
    where = cursor.parent.parent / "elsewhere" / cursor.name
    where.parent.mkdir()
    async with follow(run, where) as stream:
        assert [1, 2, 3, 4] == [(await anext(stream)).step for _ in range(4)]
        for path in where.parent.iterdir():
            shutil.copy(path, cursor.parent)
    assert {"evals.db", "evals.db-lock", "evals.db-shm", "evals.db-wal"} == set(files(cursor))


USES = pytest.mark.parametrize("used", [use, use_and_kill])


@USES
async def test_what_is_used_goes_on(run: Path, cursor: Path, used: Any) -> None:
    """
    None of what follows has to do with how a file was made.
    """
    await used(run, cursor)
    mark_done(run, 5)

    assert ([5] if used is use else [4, 5]) == await all_of(run, cursor)


# What is no cursor.


def text(path: Path) -> None:
    path.write_text("step,accuracy\n1000,0.71\n" * 1000)


def short_text(path: Path) -> None:
    path.write_text("x")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(3 * PAGE))


def notes(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.commit()
    connection.close()


def notes_after_a_kill(path: Path) -> None:
    """
    Another program's database, of which a part is in its write-ahead log.
    """
    where = path.parent.parent / "notes" / path.name
    where.parent.mkdir()
    connection = sqlite3.connect(where)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE notes (text)")
    connection.execute("INSERT INTO notes VALUES ('precious')")
    connection.commit()
    for file in where.parent.iterdir():
        shutil.copy(file, path.parent)
    connection.close()


def notes_in_a_transaction(path: Path) -> None:
    """
    Another program's database, of which a part has to be rolled back.
    """
    where = path.parent.parent / "notes" / path.name
    where.parent.mkdir()
    notes(where)
    connection = sqlite3.connect(where, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN")
    for _ in range(100):
        connection.execute("INSERT INTO notes VALUES (hex(randomblob(2000)))")
    for file in where.parent.iterdir():
        shutil.copy(file, path.parent)
    connection.close()
    assert path.with_name(f"{path.name}-journal").exists()


@pytest.mark.parametrize("make", [text, short_text, zeros])
async def test_what_is_no_database(run: Path, cursor: Path, make: Damage) -> None:
    """
    A log, a table, anything that somebody named by mistake.
    """
    make(cursor)

    said = "it is not a cursor: name another file (file is not a database)"
    assert said == await refused(run, cursor)


@pytest.mark.parametrize("make", [notes, notes_after_a_kill, notes_in_a_transaction])
async def test_a_database_of_another_program(run: Path, cursor: Path, make: Damage) -> None:
    """
    It is not even repaired: that is for its own program.
    """
    make(cursor)

    said = "it is a database, but not a cursor: name another file"
    assert said == await refused(run, cursor)


@USES
async def test_of_a_later_version(run: Path, cursor: Path, used: Any) -> None:
    """
    A schema that this version does not know.
    """
    await used(run, cursor)
    with cursor.open("r+b") as file:
        file.seek(60)
        file.write((_schema.VERSION + 1).to_bytes(4, "big"))

    said = (
        "it was written by a later version of ckptstream (its schema is 2, this one knows 1): "
        "update ckptstream, or name another file"
    )
    assert said == await refused(run, cursor)


async def test_of_a_later_version_that_was_killed(run: Path, cursor: Path) -> None:
    """
    That it has changed the schema stands only in its log.
    """
    await use(run, cursor.with_name("used.db"))
    connection = sqlite3.connect(cursor.with_name("used.db"), isolation_level=None)
    connection.execute(f"PRAGMA user_version = {_schema.VERSION + 1}")
    for suffix in ("", "-wal"):
        shutil.copy(cursor.with_name(f"used.db{suffix}"), cursor.with_name(f"evals.db{suffix}"))
    connection.close()

    assert "it was written by a later version" in await refused(run, cursor)


async def test_killed_while_its_log_was_merged(run: Path, cursor: Path) -> None:
    """
    The file is shorter than its first page says, and the rest is in the log.
    """
    where = cursor.with_name("used.db")
    for step in (1, 2, 3):
        mark_done(run, step)
    async with follow(run, where, done="explicit") as stream:
        await stream.done(await anext(stream))
        await stream.failed(await anext(stream), "it is bad" * 2000)
        for suffix in ("", "-wal", "-lock"):
            shutil.copy(f"{where}{suffix}", f"{cursor}{suffix}")
    log = Path(f"{cursor}-wal").read_bytes()
    frames = [log[start : start + 24 + PAGE] for start in range(32, len(log), 24 + PAGE)]
    first = [frame[24:] for frame in frames if frame.startswith(bytes([0, 0, 0, 1]))][-1]
    assert cursor.stat().st_size < PAGE * int.from_bytes(first[28:32], "big")
    with cursor.open("r+b") as file:
        file.write(first)

    assert [3] == await all_of(run, cursor)


async def test_an_empty_file_is_taken(run: Path, cursor: Path) -> None:
    """
    As `tempfile` makes one.
    """
    cursor.touch()
    mark_done(run, 1)

    assert [1] == await all_of(run, cursor)
    assert [] == await all_of(run, cursor)


async def test_a_directory(run: Path, cursor: Path) -> None:
    """
    Not a file at all.
    """
    cursor.mkdir()

    assert "name a file" in await refused(run, cursor)


async def test_a_path_that_is_not_utf8(run: Path, cursor: Path) -> None:
    """
    It is a path like any other.
    """
    mark_done(run, 1)
    path = Path(os.fsdecode(bytes(cursor) + b"-\xff"))

    assert [1] == await all_of(run, path)
    assert [] == await all_of(run, path)
    path.write_text("text")
    with pytest.raises(CursorError, match="name another file"):
        await all_of(run, path)


async def test_no_such_directory(run: Path, cursor: Path) -> None:
    """
    It is not made.
    """
    cursor.parent.rmdir()

    with pytest.raises(CursorError) as caught:
        await all_of(run, cursor)
    said = "it cannot be opened: check that its directory is there and writable"
    assert f"cursor {str(cursor)!r}: {said} (unable to open database file)" == str(caught.value)
    assert not cursor.parent.exists()


async def test_an_error_that_nobody_thought_of(
    run: Path, cursor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It reaches the caller as it is.
    """

    def check_file(path: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ckptstream._cursor._file.check_file", check_file)

    with pytest.raises(ZeroDivisionError):
        await all_of(run, cursor)


# Damage.


@USES
@pytest.mark.parametrize("length", [0, 1, 50, 99, 100, 101, PAGE - 1, PAGE, 2 * PAGE, -PAGE, -1])
async def test_cut_off(run: Path, cursor: Path, used: Any, length: int) -> None:
    """
    Nothing of it is begun anew: what was done would be done again, and nobody told.
    """
    await used(run, cursor)
    size = cursor.stat().st_size
    os.truncate(cursor, length if length >= 0 else size + length)

    if used is use_and_kill and await all_is_there(run, cursor):
        return  # in its log
    said = "it is damaged: restore it from a copy, or move it away and begin anew"
    assert f"{said} (malformed: it was cut off)" == await refused(run, cursor)


async def all_is_there(run: Path, cursor: Path) -> bool:
    """
    Whether a copy of it works, and knows what was done and what was not.
    """
    copies = cursor.parent.parent / "copies"
    shutil.copytree(cursor.parent, copies)
    try:
        steps = await all_of(run, copies / cursor.name)
    except CursorError:
        return False
    assert [4] == steps
    return True


@USES
async def test_overwritten(run: Path, cursor: Path, used: Any) -> None:
    """
    All but the first page: it looks like a cursor.
    """
    await used(run, cursor)
    size = cursor.stat().st_size
    with cursor.open("r+b") as file:
        file.seek(PAGE)
        file.write(b"\xff" * (size - PAGE))

    with pytest.raises(CursorError) as caught:
        await all_of(run, cursor)
    said = "it is damaged: restore it from a copy, or move it away and begin anew"
    assert f"cursor {str(cursor)!r}: {said} (database disk image is malformed)" == str(caught.value)


# Other processes.

PRELUDE = """
import os, signal, sqlite3, sys, threading
import anyio, ckptstream
from ckptstream.testing import save

run, path = sys.argv[1:3]

def follow(where=run, **options):
    options = {"layout": "step_{step}/DONE", "timeout": 0, "cursor": path, **options}
    return ckptstream.follow(where, **options)

async def all_of(**options):
    async with follow(**options) as stream:
        return [c.step async for c in stream]

def said(**options):
    try:
        return anyio.run(lambda: all_of(**options))
    except ckptstream.CursorError as error:
        prefix = f"cursor {path!r}: "
        assert str(error).startswith(prefix), error
        return type(error).__name__ + ": " + str(error).removeprefix(prefix)

def read(path):
    with open(path, "rb") as file:
        return file.read()

def say(*words):
    print(*words, sep=" | ", flush=True)
"""


@contextmanager
def process(*parts: str, run: Path, cursor: Path, before: Sequence[str] = ()) -> Iterator[Any]:
    """
    A program in a process of its own, whose words are read line by line.
    """
    code = PRELUDE + "".join(map(textwrap.dedent, parts))
    command = [*before, sys.executable, "-W", "error", "-c", code, str(run), str(cursor)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def lines(*parts: str, run: Path, cursor: Path, before: Sequence[str] = ()) -> list[str]:
    """
    All that a program says.
    """
    with process(*parts, run=run, cursor=cursor, before=before) as child:
        output, _ = child.communicate(timeout=3 * SECONDS)
        assert 0 == child.returncode, output
        return str(output).splitlines()


def namespace(*options: str) -> list[str]:
    """
    The command that gives a program a user namespace; skips the test where there are none.
    """
    command = ["unshare", "--user", *options]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    return command


HOLDS = """
    connection = sqlite3.connect(path, isolation_level=None)
    if HOW == "EXCLUSIVE MODE":
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN " + HOW.removesuffix(" MODE"))
    say("HOLDS")
    sys.stdin.readline()
    connection.execute("ROLLBACK")
    connection.close()
    say("GIVES BACK")
    sys.stdin.readline()
"""


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE", "EXCLUSIVE MODE"])
async def test_locked_by_another_program(
    run: Path, cursor: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    For longer than anybody writes; later it goes on where it was.
    """
    monkeypatch.setattr(_schema, "BUSY_SECONDS", 0.05)
    await use(run, cursor)
    mark_done(run, 4)
    with process(f"HOW = {how!r}\n", HOLDS, run=run, cursor=cursor) as other:
        assert "HOLDS\n" == other.stdout.readline()
        said = await refused_while_locked(run, cursor)
        other.stdin.write("\n")
        assert "GIVES BACK\n" == other.stdout.readline()

    assert "another program keeps it locked: end that program (database is locked)" == said
    assert [4] == await all_of(run, cursor)


async def refused_while_locked(run: Path, cursor: Path) -> str:
    """
    Beside the file lies what the other program needs.
    """
    before = cursor.read_bytes()
    with pytest.raises(CursorError) as caught:
        await all_of(run, cursor)
    assert before == cursor.read_bytes()
    return str(caught.value).removeprefix(f"cursor {str(cursor)!r}: ")


async def test_locked_while_it_is_used(
    run: Path, cursor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The call raises and loses nothing: a later one says what this one could not.
    """
    monkeypatch.setattr(_schema, "BUSY_SECONDS", 0.05)
    for step in (1, 2, 3):
        mark_done(run, step)
    async with follow(run, cursor, timeout=None) as stream:
        assert 1 == (await anext(stream)).step
        with process("HOW = 'IMMEDIATE'\n", HOLDS, run=run, cursor=cursor) as other:
            assert "HOLDS\n" == other.stdout.readline()
            for _ in range(2):
                with pytest.raises(CursorError, match="keeps it locked"):
                    await anext(stream)
            other.stdin.write("\n")
            assert "GIVES BACK\n" == other.stdout.readline()
            assert [2, 3] == [(await anext(stream)).step for _ in range(2)]

    assert [] == await all_of(run, cursor)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("fails", [False, True])
async def test_locked_while_for_each_says_what_is_done(
    run: Path, cursor: Path, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its error comes alone, not in a group; what it was about to say is said in the end.
    """
    monkeypatch.setattr(_schema, "BUSY_SECONDS", 0.05)
    for step in (1, 2):
        mark_done(run, step)
    other = sqlite3.connect(cursor, isolation_level=None, check_same_thread=False)

    def evaluate(checkpoint: Checkpoint) -> None:
        other.execute("BEGIN IMMEDIATE")
        if fails:
            raise ValueError("it is bad")

    stream = follow(run, cursor)
    async with stream:
        with pytest.raises(CursorError, match="keeps it locked"):
            await stream.for_each(evaluate)
        other.execute("ROLLBACK")
    other.close()

    assert [2] == await all_of(run, cursor)


def test_read_only_mount(run: Path, cursor: Path) -> None:
    """
    Nothing can be written: not the file, nor anything beside it.
    """
    program = """
        say(anyio.run(all_of))
        kept = os.path.dirname(path)
        assert 0 == os.system(f"mount --bind {kept} {kept} && mount -o remount,ro,bind {kept}")
        before = read(path), os.listdir(kept)
        os.chdir("/")
        say(said())
        assert before == (read(path), os.listdir(kept))
        path += "-other"
        say(said())
        say(os.path.exists(path))
    """
    mark_done(run, 1)
    before = namespace("--map-root-user", "--mount")
    done = lines(program, run=run, cursor=cursor, before=before)

    begun, used, new, there = done
    assert ("[1]", "False") == (begun, there)
    for said in (used, new):
        assert "make it and its directory writable" in said or "is there and writable" in said


@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_without_permission(run: Path, cursor: Path, mode: int) -> None:
    """
    The file may not be written, or not even read.
    """
    program = f"""
        say(anyio.run(all_of))
        before = read(path)
        os.chmod(path, {mode})
        beside = os.listdir(os.path.dirname(path))
        say(said())
        assert beside == os.listdir(os.path.dirname(path))
        os.chmod(path, 0o644)
        assert before == read(path)
    """
    mark_done(run, 1)
    before = namespace("--map-user=1000", "--map-group=1000")

    begun, said = lines(program, run=run, cursor=cursor, before=before)
    assert "[1]" == begun
    assert "make it and its directory" in said


def test_directory_without_permission(run: Path, cursor: Path) -> None:
    """
    What lies beside the file cannot be made.
    """
    program = """
        say(anyio.run(all_of))
        before = read(path)
        os.chmod(os.path.dirname(path), 0o555)
        say(said())
        path += "-other"
        say(said())
        os.chmod(os.path.dirname(path), 0o755)
        assert before == read(path.removesuffix("-other"))
        say(os.path.exists(path))
    """
    mark_done(run, 1)
    before = namespace("--map-user=1000", "--map-group=1000")

    begun, used, new, there = lines(program, run=run, cursor=cursor, before=before)
    assert ("[1]", "False") == (begun, there)
    for said in (used, new):
        assert "writable" in said


FULL = """
    kept = os.path.dirname(path)

    def mount(kilobytes, *options):
        options = ",".join([f"size={kilobytes}k", *options])
        assert 0 == os.system(f"mount -t tmpfs -o {options} tmpfs {kept}")
"""


def test_full_disk(run: Path, cursor: Path) -> None:
    """
    However much fits: an error says so, and with more room it goes on where it was.
    """
    program = """
        for kilobytes in range(4, 200, 4):
            mount(kilobytes)
            first = said()
            assert 0 == os.system(f"mount -o remount,size=1m {kept}")
            second = said()
            say(kilobytes, first, second)
            os.system(f"umount {kept}")
    """
    for step in range(1, 6):
        mark_done(run, step)
    done = lines(
        FULL, program, run=run, cursor=cursor, before=namespace("--map-root-user", "--mount")
    )

    results = [line.split(" | ")[1:] for line in done]
    full = "CursorError: the disk is full: make room"
    refusals = [first for first, _ in results if first.startswith(full)]
    everything = "[1, 2, 3, 4, 5]"
    assert {everything} == {first for first, _ in results} - set(refusals), done
    assert 5 <= len(refusals) < len(results)
    for first, second in results:
        # What was done before the disk was full does not come again.
        assert second == "[]" if first == everything else everything.endswith(second[1:])


def test_disk_fills_up(run: Path, cursor: Path) -> None:
    """
    The call raises and loses nothing; what was done before counts, with and without more room.
    """
    program = """
        def fill():
            descriptor = os.open(kept + "/filler", os.O_WRONLY | os.O_CREAT)
            try:
                while True:
                    os.write(descriptor, bytes(4096))
            except OSError:
                os.close(descriptor)

        async def main():
            async with follow(timeout=None, done="explicit") as stream:
                first = await anext(stream)
                await stream.done(first)
                fill()
                out = []
                for _ in range(3):
                    try:
                        out.append(await anext(stream))
                        await stream.done(out[-1])
                    except ckptstream.CursorError as error:
                        say(error)
                os.remove(kept + "/filler")
                while len(out) < 3:
                    out.append(await anext(stream))
                    await stream.done(out[-1])
                await stream.done(await anext(stream))
                say([c.step for c in out])

        mount(256)
        anyio.run(main)
        say(said())
    """
    for step in range(1, 7):
        mark_done(run, step)
    done = lines(
        FULL, program, run=run, cursor=cursor, before=namespace("--map-root-user", "--mount")
    )

    *errors, out, after = done
    assert errors
    assert {f"cursor {str(cursor)!r}: the disk is full: make room"} == {
        error.partition(" (")[0] for error in errors
    }
    assert ("[2, 3, 4]", "[6]") == (out, after)


# Who has a run.


async def test_two_streams_in_one_process(run: Path, cursor: Path) -> None:
    """
    The second one has to wait until the first one is closed, and is not broken by it.
    """
    mark_done(run, 1)
    mark_done(run, 2)
    async with follow(run, cursor) as first:
        assert 1 == (await anext(first)).step
        for _ in range(2):
            with pytest.raises(CursorError, match="another open stream follows") as caught:
                await follow(run, cursor).__aenter__()
            assert (str(cursor), str(run)) == (caught.value.path, caught.value.run)
    async with follow(run, cursor) as second:
        assert [2] == await rest(second)


FOLLOWS = """
    async def main():
        async with follow(timeout=None) as stream:
            async for checkpoint in stream:
                say(checkpoint.step)
                if checkpoint.step == STOPS_AT:
                    sys.stdin.readline()

    anyio.run(main)
"""


async def test_two_processes(run: Path, cursor: Path) -> None:
    """
    Killed, the first one holds the run no longer; what it was at comes again.
    """
    mark_done(run, 1)
    mark_done(run, 2)
    with process("STOPS_AT = 2\n", FOLLOWS, run=run, cursor=cursor) as other:
        assert ["1\n", "2\n"] == [other.stdout.readline() for _ in range(2)]
        with pytest.raises(CursorError, match="give a second evaluation a cursor of its own"):
            await all_of(run, cursor)
        other.send_signal(signal.SIGKILL)
        other.wait()

        assert [2] == await all_of(run, cursor)


async def test_two_processes_with_two_runs(run: Path, cursor: Path, tmp_path: Path) -> None:
    """
    One file serves them all.
    """
    mark_done(run, 1)
    mark_done(tmp_path / "other", 7)
    with process("STOPS_AT = 2\n", FOLLOWS, run=run, cursor=cursor) as other:
        assert "1\n" == other.stdout.readline()
        assert [7] == await all_of(tmp_path / "other", cursor)
        mark_done(run, 2)
        assert "2\n" == other.stdout.readline()


def test_forked_child(run: Path, cursor: Path, tmp_path: Path) -> None:
    """
    A child has nothing of its parent's, and takes nothing away from it.
    """
    program = f"""
        other = {str(tmp_path / "other")!r}

        def child():
            say(said(where=run).partition(" follows ")[0])
            say(said(where=other))
            say(said(where=run).partition(":")[0])

        async def main():
            async with follow(timeout=None) as stream:
                say((await anext(stream)).step)
                pid = os.fork()
                if not pid:
                    try:
                        thread = threading.Thread(target=child)  # where no event loop runs
                        thread.start()
                        thread.join()
                    finally:
                        os._exit(0)
                os.waitpid(pid, 0)
                say((await anext(stream)).step)
                with anyio.fail_after(60):
                    third = await anyio.run_process([sys.executable, "-c", THIRD, run, path])
                say(third.stdout.decode().strip())

        anyio.run(main)
        say(said())
    """
    third = f"{PRELUDE}\nsay(said().partition(':')[0])"
    mark_done(run, 1)
    mark_done(run, 2)
    mark_done(tmp_path / "other", 7)

    done = lines(f"THIRD = {third!r}\n", program, run=run, cursor=cursor)
    busy = "CursorError: another open stream"
    assert ["1", busy, "[7]", "CursorError", "2", "CursorError", "[]"] == done


def test_forked_child_goes_on(run: Path, cursor: Path) -> None:
    """
    After its parent has gone, the run is anybody's.
    """
    program = """
        async def main():
            async with follow(timeout=None) as stream:
                say((await anext(stream)).step)
                ready, parents = os.pipe()
                if os.fork():
                    os._exit(0)
                os.close(parents)
                os.read(ready, 1)  # Until the parent has gone.

                def child():
                    say(said())
                    say(said())

                thread = threading.Thread(target=child)
                thread.start()
                thread.join()
                os._exit(0)

        anyio.run(main)
    """
    mark_done(run, 1)
    mark_done(run, 2)

    assert ["1", "[1, 2]", "[]"] == lines(program, run=run, cursor=cursor)
