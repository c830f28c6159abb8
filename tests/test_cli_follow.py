"""
`ckptstream follow`: lines, options, signals and errors.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SECONDS, ckptstream, shell, started, train
from observing import mark_done

from ckptstream._cli._main import WHOLE
from ckptstream.testing import save

INTERRUPTS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """
    A working directory with a run in it.
    """
    (tmp_path / "runs" / "7b").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def three(home: Path) -> Path:
    """
    The same, with three checkpoints.
    """
    for step in (1, 2, 3):
        save(home / "runs/7b", step)
    return home


PATHS = [f"runs/7b/checkpoint-{step}" for step in (1, 2, 3)]


def test_each_path_is_a_line(three: Path) -> None:
    """
    In order, with the summary on standard error.
    """
    done = ckptstream("follow", "runs/7b", "--timeout", "0", home=three)

    assert (PATHS, 0) == (done.stdout.splitlines(), done.returncode)
    assert "ckptstream: ended: the timeout has expired: 3 done\n" == done.stderr


def test_while_another_process_trains(home: Path) -> None:
    """
    A line comes as soon as a checkpoint is finished, though nothing reads at the end of a file.
    """
    with started("follow", "runs/*", "--until-step", "3", home=home) as follower:
        for step in (1, 2, 3):
            train(home / "runs/7b", step)
            assert PATHS[step - 1] == follower.line()
        follower.send(signal.SIGTERM)  # A pattern ends by no step.

        assert 143 == follower.end()[0]


def test_until_step(home: Path) -> None:
    """
    A run that is there ends by itself.
    """
    with started("follow", "runs/7b", "--until-step", "3", home=home) as follower:
        train(home / "runs/7b", 1, 2, 3)

        code, lines, said = follower.end()

    assert (0, PATHS) == (code, lines)
    assert ["ckptstream: ended: every run has reached --until-step: 3 done"] == said


def test_a_pipe_into_xargs(three: Path) -> None:
    """
    Every line is one argument.
    """
    done = shell("ckptstream follow runs/7b --timeout 0 | xargs -n 1 basename", three)

    assert (["checkpoint-1", "checkpoint-2", "checkpoint-3"], 0) == (
        done.stdout.splitlines(),
        done.returncode,
    )


def test_every_field_as_json(three: Path) -> None:
    """
    One object a line, with an identifier that can be a file's name.
    """
    done = ckptstream("follow", "runs/7b", "--timeout", "0", "--json", home=three)

    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert PATHS == [each["path"] for each in objects]
    assert [1, 2, 3] == [each["step"] for each in objects]
    assert {"path", "step", "run", "layout", "generation", "identifier"} == set(objects[0])
    assert ("runs/7b", "hf") == (objects[0]["run"], objects[0]["layout"])
    assert objects[0]["identifier"].startswith("runs-7b-checkpoint-1-")


def test_a_name_that_is_not_utf_8(home: Path) -> None:
    """
    It comes out as the bytes that it is.
    """
    strange = os.fsdecode(b"runs/\xff")
    mark_done(home / strange, 1)
    command = f"ckptstream follow 'runs/*' --layout 'step_{{step}}/DONE' --timeout 0 | {VERBATIM}"

    assert "72756e732fff2f737465705f310a" == shell(command, home).stdout.strip()


VERBATIM = "od -An -tx1 | tr -d ' \\n'"


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["--latest-only"], [3]),
        (["--layout", "hf"], [1, 2, 3]),
        (["--layout", "orbax"], []),
        (["--until-step", "2"], [1, 2]),
        (["--skip-existing"], []),
        (["--watcher", "poll", "--poll-interval", "0.5", "--retries", "2"], [1, 2, 3]),
        (["--latest-only", "--min-interval-secs", "10"], [3]),
    ],
)
def test_every_option_is_its_keyword(three: Path, options: list[str], steps: list[int]) -> None:
    """
    With dashes for underscores.
    """
    done = ckptstream("follow", *options, "runs/7b", "--timeout", "0", home=three)

    assert (0, [PATHS[step - 1] for step in steps]) == (done.returncode, done.stdout.splitlines())


def test_a_restart_goes_on(three: Path) -> None:
    """
    With a cursor what was printed is done.
    """
    call = ["follow", "runs/7b", "--timeout", "0", "--cursor", "printed.db"]

    assert PATHS == ckptstream(*call, home=three).stdout.splitlines()
    save(three / "runs/7b", 4)
    assert ["runs/7b/checkpoint-4"] == ckptstream(*call, home=three).stdout.splitlines()


@pytest.mark.parametrize("option", [[], ["--shell"]], ids=["words", "shell"])
def test_a_command_says_whether_training_has_ended(three: Path, option: list[str]) -> None:
    """
    It is asked at each expiry, and exit code 0 ends it; what it prints is no checkpoint.
    """
    script = three / "has ended.sh"
    script.write_text("#!/bin/sh\necho asked; echo x >> asked; test $(wc -l < asked) -ge 2\n")
    script.chmod(0o755)
    command = ["--timeout-cmd", "'./has ended.sh'", *option]
    done = ckptstream("follow", "runs/7b", "--timeout", "0.01", *command, home=three)

    assert (0, PATHS) == (done.returncode, done.stdout.splitlines())
    assert "x\nx\n" == (three / "asked").read_text()
    *asked, last = done.stderr.splitlines()
    assert ["asked", "asked"] == asked
    assert "ckptstream: ended: --timeout-cmd said that the training has ended: 3 done" == last


# How it ends.


@pytest.mark.parametrize(("number", "code"), INTERRUPTS, ids=str)
def test_a_signal_ends_it(three: Path, number: signal.Signals, code: int) -> None:
    """
    What was printed is done.
    """
    call = ["follow", "runs/7b", "--cursor", "printed.db"]
    with started(*call, home=three) as follower:
        assert PATHS == [follower.line() for _ in PATHS]
        follower.send(number)

        assert (code, [], [f"ckptstream: ended: {number.name}: 3 done"]) == follower.end()

    assert "" == ckptstream(*call, "--timeout", "0", home=three).stdout


def test_a_signal_that_is_ignored_stays_so(home: Path) -> None:
    """
    As `nohup` wants it.
    """
    with started("follow", "runs/7b", home=home, before="trap '' HUP") as follower:
        train(home / "runs/7b", 1)
        assert PATHS[0] == follower.line()
        follower.send(signal.SIGHUP)
        train(home / "runs/7b", 2)
        assert PATHS[1] == follower.line()
        follower.send(signal.SIGTERM)

        assert 143 == follower.end()[0]


def test_a_reader_that_has_enough(three: Path) -> None:
    """
    It ends quietly, as if by SIGPIPE, and what nobody has read is undone.
    """
    call = ["follow", "runs/7b", "--cursor", "printed.db"]
    with started(*call, home=three) as follower:
        assert PATHS == [follower.line() for _ in PATHS]
        assert follower.process.stdout is not None
        follower.process.stdout.close()
        train(three / "runs/7b", 4)

        assert 141 == follower.process.wait(60)
        assert follower.process.stderr is not None
        assert b"" == follower.process.stderr.read()

    again = ckptstream(*call, "--timeout", "0", home=three)
    assert ["runs/7b/checkpoint-4"] == again.stdout.splitlines()


def test_a_reader_that_does_not_read(home: Path) -> None:
    """
    A pipe that is full holds up the lines, but no signal.
    """
    for step in range(40):
        mark_done(home / "runs/7b", step)
    # Lines so long that forty of them fill a pipe.
    deep = "/".join(["."] * 1000)
    call = ["follow", f"{deep}/runs/7b", "--layout", "step_{step}/DONE", "--cursor", "printed.db"]
    with started(*call, home=home) as follower:
        first = follower.line()
        follower.send(signal.SIGTERM)
        follower.send(signal.SIGINT)
        code, lines, _ = follower.end()

    assert code in {130, 143}  # the order of two signals is the system's
    rest = ckptstream(*call, "--timeout", "0", home=home).stdout.splitlines()
    assert {f"{deep}/runs/7b/step_{step}" for step in range(40)} <= {first, *lines, *rest}


@pytest.mark.parametrize(
    ("closed", "code", "lines", "said"),
    [
        ("<&-", 0, PATHS, "ckptstream: ended: the timeout has expired: 3 done\n"),
        ("2>&-", 0, PATHS, ""),
        (">&-", 2, [], "ckptstream: standard output is closed: give '> /dev/null' if nobody"),
        ("<&- >&- 2>&-", 2, [], ""),
    ],
)
def test_a_standard_stream_that_is_closed(
    three: Path, closed: str, code: int, lines: list[str], said: str
) -> None:
    """
    What would go there goes nowhere else: not to another stream, and to no file.
    """
    done = shell(f"ckptstream follow runs/7b --timeout 0 --cursor printed.db {closed}", three)

    assert (code, lines) == (done.returncode, done.stdout.splitlines())
    assert done.stderr.startswith(said)
    assert bool(said) == bool(done.stderr)
    assert (code == 0) == (three / "printed.db").exists()


def test_what_is_waited_for_is_said(home: Path) -> None:
    """
    A directory that is not there yet is no error.
    """
    with started("follow", "runs/13b", home=home) as follower:
        assert "the directory is not there yet" in follower.line("err")
        train(home / "runs/13b", 1)
        assert "runs/13b/checkpoint-1" == follower.line()
        follower.send(signal.SIGINT)

        assert (130, []) == follower.end()[:2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'DIR...'"),
        (["runs/7b", "--layout", "hff"], "--layout='hff' is not known (did you mean 'hf'?)"),
        (
            ["runs/7b", "--timeout", "soon"],
            "'--timeout': 'soon' is not a valid float",
        ),
        (["runs/7b", "--timeout", "-1"], "--timeout=-1.0 is not a length of time"),
        (["runs/7b", "--retries", "-1"], "--retries=-1 is too few"),
        (["runs/7b", "--until-step", "-1"], "--until-step=-1 is negative"),
        (["runs/7b", "--poll-interval", "0"], "--poll-interval=0.0 would never rest"),
        (["ftp://host/run"], "DIR='ftp://host/run' is a URL"),
        (["runs/**"], "DIR='runs/**' holds '**'"),
        (["runs/7b", "{path}"], "DIR='{path}': put the whole command of --exec in quotes"),
        (["runs/7b", "--timeout-cmd", "true"], "--timeout-cmd is never asked without --timeout"),
        (["runs/7b", "--timeout", "1", "--timeout-cmd", "treu"], "no program 'treu'"),
        (["runs/7b", "--timeout", "1", "--timeout-cmd", "a 'b"], "close each quotation mark"),
        (["runs/7b", "--cursor", "nowhere/printed.db"], "nowhere/printed.db': it cannot be opened"),
        (["runs/7b", "--cursor", "file/printed.db"], "file/printed.db': it cannot be opened"),
        (["file"], "name the directory that holds checkpoints"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_call_is_one_line(home: Path, arguments: list[str], message: str) -> None:
    """
    With exit code 2, and nothing is started.
    """
    (home / "file").touch()
    done = ckptstream("follow", *arguments, home=home)

    [line] = done.stderr.splitlines()
    assert (2, "") == (done.returncode, done.stdout)
    assert line.startswith("ckptstream: ")
    assert message in line


def test_where_an_error_comes_from(home: Path) -> None:
    """
    Only who debugs sees a traceback.
    """
    done = ckptstream("follow", "runs/7b", "--layout", "hff", "--debug", home=home)

    assert "Traceback" in done.stderr
    assert 1 == done.returncode


@pytest.mark.parametrize("module", ["ckptstream._cli._saying", "click", "ckptstream._cli._follow"])
def test_ctrl_c_while_it_is_imported(module: str) -> None:
    """
    Exit code 130 and no traceback, as ever.
    """
    program = """if True:
        import sys
        class Finder:
            def find_spec(name, path=None, target=None):
                if name == sys.argv[1]:
                    raise KeyboardInterrupt
        sys.meta_path.insert(0, Finder)
        from ckptstream._cli import main
        sys.exit(main(["follow", "runs/7b", "--timeout", "0"]))
    """
    command = [sys.executable, "-c", program, module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)

    assert (130, "", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("name", ["", "follow", "ls", "doctor", "demo"])
def test_help_has_examples(home: Path, name: str) -> None:
    """
    Each of them is understood.
    """
    done = ckptstream(*filter(None, [name]), "--help", home=home)
    assert ("", 0) == (done.stderr, done.returncode)
    _, _, text = done.stdout.replace("\\\n", " ").partition("examples:\n")
    examples = [line.partition(" | ")[0] for line in text.splitlines() if "  ckptstream " in line]

    assert examples
    for example in examples:
        name, *words = shlex.split(example)[1:]
        with WHOLE.make_context("ckptstream", [name, *words]) as context:
            command = WHOLE.get_command(context, name)
            assert command is not None
            assert command.make_context(name, words, parent=context).params


def test_a_reader_that_has_enough_before_the_next_one(home: Path) -> None:
    """
    Nothing more has to come for it to end.
    """
    train(home / "runs/7b", 1)
    done = shell("ckptstream follow runs/7b | head -1", home)

    assert (141, "runs/7b/checkpoint-1\n", "") == (done.returncode, done.stdout, done.stderr)
