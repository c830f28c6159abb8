"""
`ckptstream follow` on a terminal: lines that stay, and below them a row for each run.
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import anyio
import pytest
from commands import wait_for
from rich.console import Console, ConsoleOptions, RenderResult
from steering import half_save
from terminals import terminal

from ckptstream import follow
from ckptstream._cli._activity import Activities
from ckptstream._cli._lines import Output
from ckptstream._cli._screen import Screen
from ckptstream._cli._view import View
from ckptstream.testing import save


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """
    Where the commands are started.
    """
    return tmp_path


def saved(run: Path, step: int, ago: float = 0.0) -> None:
    """
    One that was finished so many seconds ago.
    """
    path, finished = Path(save(run, step)), time.time() - ago
    for file in path.rglob("*") if ago else ():
        os.utime(file, (finished, finished))


def row(text: str, run: str) -> str:
    """
    What the view says of a run.
    """
    return next(line for line in text.splitlines() if line.startswith(f"{run} "))


@pytest.mark.parametrize("columns", [80, 200])
def test_a_row_for_each_run(home: Path, columns: int) -> None:
    """
    As wide as the terminal; what is finished stays above.
    """
    for step, ago in ((100, 5000), (200, 4000), (300, 1000)):
        saved(home / "sweeps/a", step, ago)
    half_save(home / "sweeps/b", 100)
    with terminal("follow", "sweeps/*", home=home, size=(columns, 24)) as view:
        text = view.wait(lambda text: "sweeps/a " in text and "16 min" in text)
        lines = text.splitlines()

        assert [
            f"sweeps/a/checkpoint-{step}  step {step}  hf" for step in (100, 200, 300)
        ] == lines[:3]
        assert ["run", "newest", "age", "cadence", "waiting", "for"] == lines[3].split()
        assert all(word in row(text, "sweeps/a") for word in (" 300 ", " 16 min ", "▃█"))
        assert "checkpoint-100: " in row(text, "sweeps/b")
        assert ("33 min" in row(text, "sweeps/a")) == (columns == 200)
        assert max(map(len, lines)) <= columns
        view.press_ctrl_c()
        assert 130 == view.end()
        assert "ckptstream: ended: SIGINT: 3 done" == view.text.splitlines()[-1]


def test_what_comes_is_drawn(home: Path) -> None:
    """
    While it runs: the step, and that nothing is missing any more.
    """
    run = home / "runs/7b"
    half_save(run, 1)
    with terminal("follow", "runs/7b", home=home) as view:
        view.wait(lambda text: "checkpoint-1: trainer_state" in text)
        saved(run, 1)
        view.wait(lambda text: "waiting for the next checkpoint" in text)
        assert ["runs/7b", "1"] == row(view.text, "runs/7b").split()[:2]
        saved(run, 2)
        view.wait(lambda text: "runs/7b/checkpoint-2  step 2  hf" in text)
        view.process.send_signal(signal.SIGTERM)
        assert 143 == view.end()


def test_the_window_changes(home: Path) -> None:
    """
    Wider and narrower: the view is drawn anew, and only once.
    """
    saved(home / "runs/7b", 1)
    half_save(home / "runs/7b", 2)
    with terminal("follow", "runs/7b", home=home, size=(120, 24)) as view:
        view.wait(lambda text: "checkpoint-2: " in text)
        for columns in (60, 160, 80):
            view.resize(columns, 24)
            view.wait(lambda text: text.count("newest") == 1 and text.count("checkpoint-2: ") == 1)
            assert max(map(len, view.lines)) <= columns
        view.press_ctrl_c()
        assert 130 == view.end()


def test_more_runs_than_lines(home: Path) -> None:
    """
    A thousand: as many as there is room for, those first in which something goes on.
    """
    for number in range(1000):
        (home / f"sweeps/{number:03}").mkdir(parents=True)
    saved(home / "sweeps/777", 5)
    half_save(home / "sweeps/888", 5)
    with terminal("follow", "sweeps/*", home=home) as view:
        text = view.wait(lambda text: "and 980 more runs" in text and "checkpoint-5: " in text)
        rows = [line.split()[0] for line in text.splitlines() if line.startswith("sweeps/")]

        assert ["sweeps/888", "sweeps/777"] == rows[-20:-18]
        view.press_ctrl_c()
        assert 130 == view.end()


@pytest.mark.anyio
async def test_lines_that_rush_by(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The rows below them are made up anew only when they are drawn for a change.
    """
    render, rendered, written = View.__rich_console__, list[View](), list[bytes]()

    def counted(view: View, console: Console, options: ConsoleOptions) -> RenderResult:
        rendered.append(view)
        return render(view, console, options)

    async def write(output: Output, data: bytes) -> None:
        written.append(data)

    monkeypatch.setattr(View, "__rich_console__", counted)
    monkeypatch.setattr(Output, "write", write)
    screen = Screen(follow(home).status, Activities(), None, evaluates=False)
    async with anyio.create_task_group() as tasks:
        await tasks.start(screen.run)
        for number in range(200):
            await screen.say(f"line {number}")
        tasks.cancel_scope.cancel()

    assert all(f"line {number}".encode() in b"".join(written) for number in range(200))
    assert len(rendered) < 100


def test_the_cursor_stays(home: Path) -> None:
    """
    A shell has one when it stops or kills this at any moment.
    """
    saved(home / "runs/7b", 1)
    with terminal("follow", "runs/7b", home=home) as view:
        view.wait(lambda text: "waiting for the next checkpoint" in text)
        view.process.kill()
        view.end()

        assert view.raw.rindex(b"\x1b[?25h") > view.raw.rindex(b"\x1b[?25l")


@pytest.mark.anyio
async def test_a_terminal_that_was_stopped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is drawn again as soon as it goes on, and as often as before.
    """
    written = list[bytes]()

    async def write(output: Output, data: bytes) -> None:
        if not written:
            await anyio.sleep(1)
        written.append(data)

    monkeypatch.setattr(Output, "write", write)
    screen = Screen(follow(home).status, Activities(), None, evaluates=False)
    async with anyio.create_task_group() as tasks:
        await tasks.start(screen.run)
        with anyio.fail_after(10):
            while len(written) < 3:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


def test_how_far_it_is(home: Path) -> None:
    """
    Where the end is known: a bar, and the time that is left.
    """
    for step, ago in ((100, 2000), (200, 1000), (300, 0)):
        saved(home / "runs/7b", step, ago)
    with terminal("follow", "runs/7b", "--until-step", "1000", home=home) as view:
        view.wait(lambda text: "30% of the way to step 1,000, 11" in text)
        assert re.search(r"1,000, 11[0-9] min to train", view.text)
        saved(home / "runs/7b", 1000)
        assert 0 == view.end()
        assert "100% of the way to step 1,000" in view.text
        assert view.text.endswith("every run has reached --until-step: 4 done")


def test_a_run_that_stands_still(home: Path) -> None:
    """
    Of one that is long overdue nobody knows when it ends.
    """
    for step, ago in ((100, 5000), (200, 4900)):
        saved(home / "runs/7b", step, ago)
    with terminal("follow", "runs/7b", "--until-step", "300", home=home) as view:
        view.wait(lambda text: "67% of the way to step 300" in text)
        assert "to train" not in view.text


def test_what_is_evaluated(home: Path) -> None:
    """
    Since when; and what has failed and is set aside.
    """
    saved(home / "runs/7b", 1)
    command = "sh -c 'echo > begun; while ! test -e go; do sleep 0.01; done; exit 1'"
    call = ("follow", "runs/7b", "--output", "logs", "--exec", command)
    with terminal(*call, home=home) as view:
        wait_for(home / "begun")
        view.wait(lambda text: "evaluated" in text and "0 s: check" in text)
        view.wait(lambda text: "1 s: check" in text)
        (home / "go").touch()
        view.wait(lambda text: "1 set aside" in text)
        assert "1 s: check" not in view.text
        assert "attempt 1 has failed: exit code 1" in view.text
        view.press_ctrl_c()
        assert 130 == view.end()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--json"], {}),
        (["--exec", "true"], {}),
        ([], {"TERM": "dumb"}),
    ],
)
def test_plain_lines(home: Path, arguments: list[str], environment: dict[str, str]) -> None:
    """
    For programs, where commands write themselves, and on what cannot draw.
    """
    saved(home / "runs/7b", 1)
    call = ("follow", "runs/7b", "--timeout", "0", *arguments)
    with terminal(*call, home=home, environment=environment) as view:
        assert 0 == view.end()
        assert b"\x1b" not in view.raw


STRANGE = "odd\x1b[2J\x9b1m\nname"


@pytest.mark.parametrize("call", [("follow", "--timeout", "0"), ("ls",), ("doctor",)])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_name_is_no_order_to_the_terminal(home: Path, call: tuple[str, ...], term: str) -> None:
    """
    What is in it is shown in one line, with escapes.
    """
    saved(home / STRANGE, 1)
    command, *options = call
    environment = {"TERM": term}
    with terminal(command, STRANGE, *options, home=home, environment=environment) as view:
        assert 0 == view.end()
        assert r"odd\x1b[2J\x9b1m name" in view.text
        assert b"\x1b[2J" not in view.raw


def test_a_terminal_that_does_not_know_its_size(home: Path) -> None:
    """
    As some are at first: it is taken for a usual one.
    """
    saved(home / "runs/7b", 1)
    with terminal("follow", "runs/7b", home=home, size=(0, 0)) as view:
        view.wait(lambda text: "waiting for the next checkpoint" in text)
        view.press_ctrl_c()
        assert 130 == view.end()


def test_a_terminal_that_nobody_reads(home: Path) -> None:
    """
    While it is full a command is run all the same, and a signal ends all.
    """
    saved(home / "runs/7b", 1)
    call = ("follow", "runs/7b", "--output", "logs", "--exec", "sh -c 'echo > begun'")
    with terminal(*call, "--grace", "0", home=home, full=True) as view:
        wait_for(home / "begun")
        view.process.send_signal(signal.SIGTERM)

        assert 143 == view.process.wait(60)


def test_no_color(home: Path) -> None:
    """
    For who wants none.
    """
    saved(home / "runs/7b", 1)
    call = ("follow", "runs/7b", "--until-step", "2", "--timeout", "0.6")
    colors = list[bool]()
    for environment in ({}, {"NO_COLOR": "1"}):
        with terminal(*call, home=home, environment=environment) as view:
            assert 0 == view.end()
            assert "50% of the way" in view.text
            colors.append(any(f"\x1b[{code}".encode() in view.raw for code in (31, 32, 33, 38)))
    assert [True, False] == colors


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8])
def test_ctrl_c_at_any_moment(home: Path, moment: float) -> None:
    """
    After the first sign of life: it leaves with one word, and the cursor can be seen again.
    """
    saved(home / "runs/7b", 1)
    with terminal("follow", "runs/7b", home=home) as view:
        view.wait(lambda _: bool(view.raw))
        time.sleep(moment)
        view.press_ctrl_c()

        assert 130 == view.end()
        assert "ckptstream: ended: SIGINT" in view.text
        assert "Traceback" not in view.text
        assert view.raw.rindex(b"\x1b[?25h") > view.raw.rindex(b"\x1b[?25l")
