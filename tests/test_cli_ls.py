"""
`ckptstream ls`, and what is said of checkpoints that were lost.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import ckptstream, shell, started, train
from observing import wait_until

from ckptstream import CursorError
from ckptstream._cursor import Record, State, remembered
from ckptstream.testing import apply, operations, save

# A command that fails for step 2, and stays at step 3 until it is told to go.
WORK = "echo {step} >> begun; test {step} -ne 2 || exit 1; test {step} -ne 3 || "
WORK += "while ! test -e go; do sleep 0.01; done"
CALL = ["follow", "runs/7b", "--cursor", "evals.db", "--shell", "--exec", WORK]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """
    A working directory with a run of three finished checkpoints, and one that is begun.
    """
    run = tmp_path / "runs/7b"
    for step in (1, 2, 3):
        save(run, step)
    for operation in operations(4):
        if operation.path.endswith("trainer_state.json"):
            break
        apply(operation, run)
    return tmp_path


def listed(home: Path, *arguments: str) -> dict[str, Any]:
    """
    What `--json` says, by name.
    """
    done = ckptstream("ls", "runs/7b", "--json", *arguments, home=home)
    assert ("", 0) == (done.stderr, done.returncode)
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    return {os.path.basename(each["path"]): each for each in objects}


def states(home: Path) -> dict[str, str]:
    """
    What the cursor remembers of each that it knows.
    """
    its = listed(home, "--cursor", "evals.db")
    return {name: each["state"] for name, each in its.items() if each["state"] is not None}


def test_what_is_there(home: Path) -> None:
    """
    A line for each, by step, with what the unfinished one lacks.
    """
    done = ckptstream("ls", "runs/7b", home=home)

    assert ("", 0) == (done.stderr, done.returncode)
    lines = [re.sub(r"\d+ (s|min)  ", "AGE  ", line) for line in done.stdout.splitlines()]
    what = [re.split(" {2,}", line) for line in lines]
    finished = [[f"runs/7b/checkpoint-{n}", str(n), "hf", "AGE", "finished"] for n in (1, 2, 3)]
    unfinished = ["runs/7b/checkpoint-4", "4", "hf", "AGE", "unfinished: no trainer_state.json"]
    assert [*finished, unfinished] == [[*row[:3], *row[4:]] for row in what]
    assert all(re.fullmatch(r"\d\.\d kB", row[3]) for row in what)


def test_every_field_as_json(home: Path) -> None:
    """
    The size is that of all files.
    """
    its = listed(home)

    files = [path.stat().st_size for path in (home / "runs/7b/checkpoint-4").rglob("*")]
    four = its["checkpoint-4"]
    assert (sum(files), "no trainer_state.json") == (four["size"], four["missing"])
    assert (False, None, 4, "hf") == tuple(
        four[key] for key in ("finished", "generation", "step", "layout")
    )
    assert all(its[f"checkpoint-{n}"]["finished"] for n in (1, 2, 3))
    assert all(each["age"] >= 0 and each["there"] for each in its.values())


def test_what_cannot_be_read(home: Path) -> None:
    """
    Nobody knows whether it is finished.
    """
    program = """
import errno, os, sys
from ckptstream._cli import main
from steering import failing
with failing('open', errno.EACCES, 'checkpoint-2/trainer_state.json'):
    sys.exit(main())
"""
    # The tests may run as root, who may read all.
    program = f"import sys; sys.path.append({os.path.dirname(__file__)!r}){program}"
    done = shell(f'{sys.executable} -c "{program}" ls runs/7b', home)

    assert ("", 0) == (done.stderr, done.returncode)
    words = [re.split(" {2,}", line)[-1] for line in done.stdout.splitlines()]
    reason = "cannot be read: Permission denied: 'runs/7b/checkpoint-2/trainer_state.json'"
    assert [reason, "finished", "finished", "unfinished: no trainer_state.json"] == words


def test_a_pattern(home: Path) -> None:
    """
    All runs that match, whatever else there is.
    """
    train(home / "runs/8b", 5)
    (home / "runs/9b").mkdir()
    done = ckptstream("ls", "runs/*", "--layout", "hf", home=home)

    assert 0 == done.returncode
    assert 5 == len(done.stdout.splitlines())
    assert "ckptstream: runs/9b: there are no checkpoints\n" == done.stderr


def test_while_another_process_follows(home: Path) -> None:
    """
    The cursor is read without a lock, and says what is done, set aside, or still to be done.
    """
    with started(*CALL, home=home) as follower:
        wait_until(lambda: (home / "begun").exists() and "3" in (home / "begun").read_text())
        now = states(home)
        done = ckptstream("ls", "runs/7b", "--cursor", "evals.db", home=home)
        (home / "go").touch()
        wait_until(lambda: states(home)["checkpoint-3"] == "done")
        follower.send(signal.SIGTERM)
        code, _, said = follower.end()

    names = [f"checkpoint-{n}" for n in (1, 2, 3)]
    assert dict(zip(names, ["done", "set aside", "seen"], strict=True)) == now
    words = [re.split(" {2,}", line)[-1] for line in done.stdout.splitlines()]
    aside, pending = "set aside after 1 attempt: exit code 1", "unfinished: no trainer_state.json"
    assert ["done", aside, "not done yet", pending] == words
    assert (143, "ckptstream: ended: SIGTERM: 2 done, 1 set aside") == (code, said[-1])


def test_what_is_to_be_tried_again(home: Path) -> None:
    """
    With the reason why it is not done.
    """
    (home / "go").touch()
    ckptstream(*CALL, "--retries", "2", "--timeout", "0", home=home)
    done = ckptstream("ls", "runs/7b", "--cursor", "evals.db", home=home)

    assert "to be tried again after 1 attempt: exit code 1\n" in done.stdout


def files(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.glob("evals.db*")}


def test_the_cursor_stays_as_it_is(home: Path) -> None:
    """
    Nothing is written to it, nor beside it.
    """
    (home / "go").touch()
    ckptstream(*CALL, "--timeout", "0", home=home)
    before = files(home)

    assert "done" == states(home)["checkpoint-3"]
    assert before == files(home)
    assert {"evals.db", "evals.db-lock"} == set(before)


def test_what_a_killed_follower_has_written(home: Path) -> None:
    """
    It is all there.
    """
    with started(*CALL, home=home) as follower:
        wait_until(lambda: (home / "begun").exists() and "3" in (home / "begun").read_text())
        follower.process.kill()
        follower.process.wait(60)
        (home / "go").touch()

    assert "set aside" == states(home)["checkpoint-2"]
    assert (home / "evals.db-wal").exists()
    done = ckptstream(*CALL, "--timeout", "0", home=home)
    assert 1 == done.returncode
    assert "done" == states(home)["checkpoint-3"]


def test_what_was_missed_is_said(home: Path) -> None:
    """
    When it happens, at the end, and afterwards.
    """
    (home / "runs/7b/checkpoint-2").rename(home / "later")
    with started(*CALL, home=home) as follower:
        wait_until(lambda: (home / "begun").exists() and "3" in (home / "begun").read_text())
        train(home / "runs/7b", 5, 6)
        shutil.rmtree(home / "runs/7b/checkpoint-5")
        (home / "go").touch()
        assert "checkpoint-5: missed, it was deleted before" in follower.line("err")
        wait_until(lambda: states(home).get("checkpoint-6") == "done")
        follower.send(signal.SIGTERM)
        code, _, said = follower.end()

    assert (143, ["ckptstream: ended: SIGTERM: 3 done, 1 missed"]) == (code, said)
    done = ckptstream("ls", "runs/7b", "--cursor", "evals.db", home=home)
    assert ["runs/7b/checkpoint-5", "5", "-", "-", "-", "gone, missed"] == re.split(
        " {2,}", done.stdout.splitlines()[-1]
    )


def test_what_was_missed_is_in_the_exit_code(home: Path) -> None:
    """
    It has ended by itself, but not all is done.
    """
    command = "rm -rf runs/7b/checkpoint-[23]"
    options = ["--timeout", "0.5", "--shell", "--exec", command]
    done = ckptstream("follow", "runs/7b", *options, home=home)

    assert 1 == done.returncode
    assert "ckptstream: ended: the timeout has expired: 1 done, 2 missed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ([], "Missing argument 'DIR...'", 2),
        (["nowhere"], "nowhere: the directory is not there", 2),
        (["no/*/run"], "no/*/run: the directory is not there", 2),
        (["runs/*/none"], "runs/*/none: no directory matches", 2),
        (["file"], "'file': name the directory that holds checkpoints", 2),
        (["runs"], "1 sub-directory holds checkpoints: follow 'runs/7b'", 0),
        (["runs/7b", "--layout", "orbux"], "(did you mean 'orbax'?)", 2),
        (["runs/7b", "--cursor", "none.db"], "none.db': it is not there: check its name", 2),
        (["runs/7b", "--cursor", "file"], "it is not a cursor: name another file", 2),
        (["runs/7b", "--cursor", "runs"], "it is a directory: name a file in it", 2),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_listed(home: Path, arguments: list[str], message: str, code: int) -> None:
    """
    One line that says so.
    """
    (home / "file").write_text("no database")
    done = ckptstream("ls", *arguments, home=home)

    [line] = done.stderr.splitlines()
    assert (code, "") == (done.returncode, done.stdout)
    assert line.startswith("ckptstream: ")
    assert message in line
    assert " yet" not in line


# The function below it.

Change = Callable[[Path], object]


@pytest.fixture
def cursor(home: Path) -> Path:
    """
    A cursor that nobody has open.
    """
    (home / "go").touch()
    ckptstream(*CALL, "--timeout", "0", home=home)
    return home / "evals.db"


def aside(cursor: Path) -> list[Record]:
    """
    What it remembers of the run that is not done.
    """
    return remembered(str(cursor), {str(cursor.parent / "runs/7b"): []})[f"{cursor.parent}/runs/7b"]


def test_with_a_rollback_journal(cursor: Path) -> None:
    """
    As on a network filesystem.
    """
    connection = sqlite3.connect(cursor)
    assert [("delete",)] == connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    connection.close()

    [record] = aside(cursor)
    assert ("checkpoint-2", 2, State.SET_ASIDE) == (record.name, record.step, record.memory.state)


def test_a_run_that_it_does_not_know(cursor: Path) -> None:
    """
    There is nothing to remember.
    """
    assert {"/nowhere": []} == remembered(str(cursor), {"/nowhere": [("checkpoint-1", "1-2-3")]})


def test_an_empty_file(tmp_path: Path) -> None:
    """
    It is made for a cursor, and stays empty.
    """
    path = tmp_path / "evals.db"
    path.touch()

    assert {"/nowhere": []} == remembered(str(path), {"/nowhere": []})
    assert b"" == path.read_bytes()


def later_schema(cursor: Path) -> None:
    connection = sqlite3.connect(cursor)
    connection.execute("PRAGMA user_version = 1000")
    connection.close()


DAMAGES: dict[str, Change] = {
    "malformed": lambda path: os.truncate(path, 5000),
    "a later version of ckptstream": later_schema,
    "not a cursor": lambda path: path.write_bytes(b"not a database, but long enough" * 100),
}


@pytest.mark.parametrize(("message", "damage"), DAMAGES.items(), ids=DAMAGES)
def test_a_file_that_cannot_be_used(cursor: Path, message: str, damage: Change) -> None:
    """
    It is left as it was.
    """
    damage(cursor)
    before = files(cursor.parent)

    with pytest.raises(CursorError, match=message):
        aside(cursor)
    assert before == files(cursor.parent)


def test_a_transaction_that_was_cut_short(cursor: Path) -> None:
    """
    Only who may write can undo it.
    """
    program = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = DELETE")
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
for number in range(10000):
    connection.execute("INSERT INTO runs (path) VALUES (?)", (f"/{number}",))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program, str(cursor)], check=False, timeout=60)
    before = files(cursor.parent)
    assert "evals.db-journal" in before

    with pytest.raises(CursorError, match="start that program again"):
        aside(cursor)
    assert before == files(cursor.parent)
