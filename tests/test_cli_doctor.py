"""
`ckptstream doctor`: what can be relied on where a run lies.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from commands import ckptstream, shell
from observing import linux

from ckptstream._cli import _inotify_limits
from ckptstream._cli._doctor import _limits
from ckptstream._cli._inotify_limits import Used, used
from ckptstream._stores import mount


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """
    Where the commands are started.
    """
    (tmp_path / "runs/7b").mkdir(parents=True)
    return tmp_path


@linux
def test_where_a_run_lies(home: Path) -> None:
    """
    Nothing is written to find that out.
    """
    before = os.stat(home / "runs/7b").st_mtime_ns
    done = ckptstream("doctor", "runs/7b", home=home)
    point, kind = mount(os.path.realpath(home))
    lines = done.stdout.splitlines()

    assert ("", 0) == (done.stderr, done.returncode)
    assert "runs/7b" == lines[0]
    assert f"  filesystem: {kind}, mounted at {point}" in lines
    assert "  directory: found" in lines
    assert f"  watcher: inotify: {kind} is local" in lines
    assert 2 == sum(": not tried: --probe writes" in line for line in lines)
    assert any(line.startswith("  watches: ") and line.endswith(" in use") for line in lines)
    assert before == os.stat(home / "runs/7b").st_mtime_ns


@linux
def test_what_a_probe_finds(home: Path) -> None:
    """
    It leaves nothing.
    """
    done = ckptstream("doctor", "runs/7b", "--probe", home=home)

    assert 0 == done.returncode
    assert "  events: they come, after " in done.stdout
    assert "  clock: as this host's" in done.stdout.splitlines()
    assert "  hard links: can be made: pins work" in done.stdout.splitlines()
    assert [] == os.listdir(home / "runs/7b")


def test_one_that_is_not_there(home: Path) -> None:
    """
    Of several directories each is examined.
    """
    done = ckptstream("doctor", "runs/13b", "runs/7b", home=home)

    assert 1 == done.returncode
    assert "! directory: the directory is not there yet" in done.stdout.splitlines()
    assert "  directory: found" in done.stdout.splitlines()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_one_that_cannot_be_written(home: Path) -> None:
    """
    The probe says so.
    """
    (home / "runs/7b").chmod(0o555)
    done = ckptstream("doctor", "runs/7b", "--probe", home=home)

    assert "  probe: nothing can be written there: Permission denied" in done.stdout


@linux
def test_one_where_nothing_can_be_written(home: Path) -> None:
    """
    Not even by root.
    """
    done = ckptstream("doctor", "/proc/self", "--probe", home=home)

    assert 0 == done.returncode
    assert "  probe: nothing can be written there: " in done.stdout


@linux
def test_one_where_no_event_comes(home: Path) -> None:
    """
    Relied on, that is wrong.
    """
    program = (
        "import inotify_simple; inotify_simple.INotify.read = lambda self, timeout=None: []; "
        "import sys; from ckptstream._cli import main; sys.exit(main())"
    )
    done = shell(f'{sys.executable} -c "{program}" doctor runs/7b --probe', home)

    assert 1 == done.returncode
    assert "! events: none came: have it polled, with --watcher poll" in done.stdout.splitlines()


def test_limits_that_are_near() -> None:
    """
    With what to do.
    """
    few, many = _limits(Used(3, 128, 900, 1000))

    assert ("3 of 128 in use", False) == (few.words, few.wrong)
    assert many.wrong
    assert many.words.startswith("900 of 1,000 in use: raise fs.inotify.max_user_watches (sysctl)")


@linux
def test_what_is_in_use(tmp_path: Path) -> None:
    """
    The kernel's own numbers.
    """
    from inotify_simple import INotify, flags

    before = used()
    with INotify() as inotify:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            inotify.add_watch(tmp_path / name, flags.CREATE)
        assert any(2 == count for count in _inotify_limits._watches(str(os.getpid())))
    assert before is not None
    assert before.max_watches > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'DIR...'"),
        (["file"], "name the directory that holds checkpoints"),
        (["runs/*"], "DIR='runs/*' is a pattern: give one run's directory"),
        (["ftp://host/run"], "is a URL"),
        (["runs/7b", "--prob"], "Did you mean '--probe'?"),
    ],
)
def test_a_wrong_call_is_one_line(home: Path, arguments: list[str], message: str) -> None:
    """
    With exit code 2.
    """
    (home / "file").touch()
    done = ckptstream("doctor", *arguments, home=home)

    [line] = done.stderr.splitlines()
    assert (2, "") == (done.returncode, done.stdout)
    assert message in line
