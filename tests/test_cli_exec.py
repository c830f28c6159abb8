"""
`ckptstream follow --exec`: what is run, how it fails, and how it ends.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
from commands import ckptstream, shell, started, train, wait_for
from observing import mark_done, wait_until

from ckptstream.testing import save

# Commands that tests run; what they are told stands in `sys.argv`.
TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['CKPTSTREAM_SLOT']]))"
STOP = """
import os, signal, subprocess, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
with open("begun", "a") as file:
    print(os.getpid(), child.pid, file=file)
while not os.path.exists("go"):
    time.sleep(0.01)
child.kill()
"""


def python(program: str, *arguments: str) -> str:
    """
    A command that runs a Python program.
    """
    return shlex.join([sys.executable, "-c", program, *arguments])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """
    A working directory with a run of three checkpoints.
    """
    for step in (1, 2, 3):
        save(tmp_path / "runs/7b", step)
    return tmp_path


def is_running(pid: int) -> bool:
    """
    Whether a process runs; one that nobody waits for is none.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def told(text: str) -> list[tuple[list[str], str]]:
    """
    What each command has told, in order.
    """
    return sorted((arguments, slot) for arguments, slot in map(json.loads, text.splitlines()))


def test_a_command_for_each(home: Path) -> None:
    """
    Placeholders are replaced, other braces are text.
    """
    model = '{"pretrained":"{path}","tags":{"n":{step}}}'
    words = [
        "{path}",
        "--step={step}",
        "{run}|{layout}",
        "{}",
        model,
        "{{step}}",
        "{{path2}}",
        "$HOME",
    ]
    done = ckptstream(
        *("follow", "runs/7b", "--until-step", "3", "--exec", python(TELL, *words)), home=home
    )

    assert "ckptstream: ended: every run has reached --until-step: 3 done\n" == done.stderr
    assert 0 == done.returncode
    [first, _, _] = told(done.stdout)
    path = "runs/7b/checkpoint-1"
    filled = '{"pretrained":"runs/7b/checkpoint-1","tags":{"n":1}}'
    assert ([path, "--step=1", "runs/7b|hf", "{}", filled, "{1}", "{path2}", "$HOME"], "0") == first


STRANGE = 'it\'s $(touch pwned) "x"; touch pwned #'


@pytest.mark.parametrize("option", [[], ["--shell"]], ids=["words", "shell"])
def test_a_name_is_never_a_command(home: Path, option: list[str]) -> None:
    """
    Whatever a path holds, it is one argument.
    """
    mark_done(home / STRANGE, 1)
    template = ["--layout", "step_{step}/DONE", "--timeout", "0"]
    command = f"{python(TELL)} {{path}} {{run}}"
    done = ckptstream("follow", STRANGE, *template, "--exec", command, *option, home=home)

    assert [([f"{STRANGE}/step_1", STRANGE], "0")] == told(done.stdout)
    assert not (home / "pwned").exists()


def test_through_a_shell(home: Path) -> None:
    """
    Only if it was asked for.
    """
    command = "echo {step} $CKPTSTREAM_SLOT ${HOME:+home} | tr ' ' '-' > {identifier}.txt && true"
    done = ckptstream(
        *("follow", "runs/7b", "--timeout", "0", "--shell", "--exec", command), home=home
    )

    assert (0, "") == (done.returncode, done.stdout)
    written = {path.name.rpartition("-")[0]: path.read_text() for path in home.glob("*.txt")}
    assert {f"runs-7b-checkpoint-{n}": f"{n}-0-home\n" for n in (1, 2, 3)} == {
        name.removeprefix(f"{home.name}-"): text for name, text in written.items()
    }


def test_identifiers_tell_names_and_runs_apart(home: Path) -> None:
    """
    The same from anywhere, for each generation, and never a path.
    """
    for run in ("a/x_y", "a/x y", "b/x_y"):
        mark_done(home / run, 1)
    call = ["--layout", "step_{step}/DONE", "--timeout", "0", "--exec", "echo {identifier}"]
    runs = ["a/x_y", "a/x y", "b/x_y"]
    words = ckptstream("follow", *runs, *call, home=home).stdout.split()
    elsewhere = ckptstream("follow", "x_y", *call, home=home / "a").stdout.split()

    assert 3 == len(set(words))
    assert set(elsewhere) < set(words)
    assert not any(character in "".join(words) for character in "/ .")


def test_some_at_a_time(home: Path) -> None:
    """
    Each command has a slot of its own, lower than the number of jobs.
    """
    program = """
import os, time
slot = os.environ["CKPTSTREAM_SLOT"]
open("slot-" + slot, "x").close()
while not os.path.exists("go"):
    time.sleep(0.01)
os.remove("slot-" + slot)
"""
    for step in (4, 5):
        save(home / "runs/7b", step)
    call = ["follow", "runs/7b", "--until-step", "5", "--jobs", "2", "--exec", python(program)]
    with started(*call, home=home) as follower:
        wait_until(lambda: {"slot-0", "slot-1"} == {path.name for path in home.glob("slot-*")})
        (home / "go").touch()
        code, _, said = follower.end()

    assert 0 == code
    assert ["ckptstream: ended: every run has reached --until-step: 5 done"] == said


def test_while_another_process_trains(home: Path) -> None:
    """
    Each as soon as it is finished.
    """
    command = "echo {step}"
    with started(
        "follow", "runs/7b", "--until-step", "5", "--exec", command, home=home
    ) as follower:
        assert ["1", "2", "3"] == [follower.line() for _ in range(3)]
        train(home / "runs/7b", 4)
        assert "4" == follower.line()
        train(home / "runs/7b", 5)
        assert (0, ["5"]) == follower.end()[:2]


def test_output_is_kept(home: Path) -> None:
    """
    One file for each, with all that it wrote; standard output has what is done.
    """
    command = "echo out {step}; echo err {step} >&2; test {step} -ne 2"
    options = ["--timeout", "0", "--output", "logs/evals", "--shell", "--json"]
    done = ckptstream("follow", "runs/7b", *options, "--exec", command, home=home)

    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert (1, [1, 3]) == (done.returncode, [each["step"] for each in objects])
    names = [f"{each['identifier']}.log" for each in objects]
    texts = [(home / "logs/evals" / name).read_text() for name in names]
    assert ["out 1\nerr 1\n", "out 3\nerr 3\n"] == texts
    [other] = {path.name for path in (home / "logs/evals").iterdir()} - set(names)
    assert f"exit code 1: see 'logs/evals/{other}'; it is not delivered again" in done.stderr


def test_a_failed_command_is_tried_again(home: Path) -> None:
    """
    After a restart, and with an exit code that says so; done is done.
    """
    options = ["--timeout", "0", "--cursor", "evals.db", "--retries", "1", "--shell"]
    command = "echo {step}; test {step} -ne 2"
    codes, outputs, said = [], [], []
    for _ in range(3):
        done = ckptstream("follow", "runs/7b", *options, "--exec", command, home=home)
        codes.append(done.returncode)
        outputs.append(done.stdout.split())
        said.append(done.stderr.splitlines())

    assert ([1, 1, 1], [["1", "2", "3"], ["2"], []]) == (codes, outputs)
    path = "ckptstream: runs/7b/checkpoint-2"
    end = "ckptstream: ended: the timeout has expired"
    assert f"{path}: attempt 1 has failed: exit code 1; it is delivered again in 10 s" == said[0][0]
    assert f"{path}: attempt 2 has failed: exit code 1; it is not delivered again" == said[1][0]
    assert f"{end}: 2 done, 1 failed" == said[0][1]
    assert [f"{end}: 0 done, 1 set aside"] == [said[1][1]] == said[2]

    options[5] = "2"
    again = ckptstream("follow", "runs/7b", *options, "--exec", "echo {step}", home=home)
    assert (0, "2\n") == (again.returncode, again.stdout)


def test_a_program_that_vanishes(home: Path) -> None:
    """
    A command that cannot be started is a failed attempt.
    """
    script = home / "once.sh"
    script.write_text("#!/bin/sh\nrm once.sh\n")
    script.chmod(0o755)
    done = ckptstream("follow", "runs/7b", "--timeout", "0", "--exec", "./once.sh", home=home)

    assert 1 == done.returncode
    assert "cannot be started: No such file or directory: './once.sh'" in done.stderr
    assert "1 done, 2 set aside" in done.stderr


def test_what_is_deleted_meanwhile_is_kept(home: Path) -> None:
    """
    With `--pin` a command has its files, and the word for its name is the same.
    """
    command = (
        f"rm -r {home}/runs/7b/checkpoint-*; cat {{path}}/trainer_state.json; echo {{identifier}}"
    )
    options = ["--timeout", "0", "--pin", "--shell", "--latest-only"]
    done = ckptstream("follow", *options, "runs/7b", "--exec", command, home=home)

    assert '"global_step": 3' in done.stdout
    assert "-checkpoint-3-" in done.stdout


# How it ends.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_running_commands_are_given_time(home: Path, number: signal.Signals) -> None:
    """
    What ends in it is done, and nothing new is begun.
    """
    options = ["--cursor", "evals.db", "--grace", "1000", "--output", "logs"]
    with started("follow", "runs/7b", *options, "--exec", python(STOP), home=home) as follower:
        wait_for(home / "begun")
        follower.send(number)
        given = "1 command is given 1000 s to end; again: ended at once"
        assert f"ckptstream: {number.name}: {given}" == follower.line("err")
        (home / "go").touch()
        code, lines, said = follower.end()

    assert (128 + number, ["runs/7b/checkpoint-1"]) == (code, lines)
    assert [f"ckptstream: ended: {number.name}: 1 done"] == said
    assert [2, 3] == undone(home)


def undone(home: Path) -> list[int]:
    """
    The steps that a restart would evaluate, which it does.
    """
    call = ["--timeout", "0", "--cursor", "evals.db", "--exec", "echo {step}"]
    done = ckptstream("follow", "runs/7b", *call, home=home)
    assert 0 == done.returncode
    return sorted(map(int, done.stdout.split()))


@pytest.mark.parametrize("kind", ["obedient", "deaf"])
def test_then_they_are_ended(home: Path, kind: str) -> None:
    """
    With all processes that they have started; what has not ended by itself is undone.
    """
    options = ["--cursor", "evals.db", "--grace", "0.1", "--jobs", "2"]
    call = ["follow", "runs/7b", *options, "--exec", python(STOP, kind)]
    with started(*call, home=home) as follower:
        wait_until(lambda: len(pids(home)) == 4)
        follower.send(signal.SIGTERM)
        code, _, said = follower.end()

    assert 143 == code
    assert "ckptstream: ended: SIGTERM: 0 done, 2 undone" == said[-1]
    wait_until(lambda: not any(map(is_running, pids(home))))
    assert [1, 2, 3] == undone(home)


def pids(home: Path) -> list[int]:
    begun = home / "begun"
    return [int(pid) for pid in begun.read_text().split()] if begun.exists() else []


def test_a_second_signal_ends_all_at_once(home: Path) -> None:
    """
    However long they were to be given.
    """
    options = ["--cursor", "evals.db", "--grace", "1000"]
    call = ["follow", "runs/7b", *options, "--exec", python(STOP, "deaf")]
    with started(*call, home=home) as follower:
        wait_for(home / "begun")
        follower.send(signal.SIGINT)
        follower.line("err", "again: ended at once")
        follower.send(signal.SIGINT)
        code, _, said = follower.end()

    assert (130, ["ckptstream: ended: SIGINT: 0 done, 1 undone"]) == (code, said)
    wait_until(lambda: not any(map(is_running, pids(home))))
    assert [1, 2, 3] == undone(home)


def test_a_signal_for_all_processes(home: Path) -> None:
    """
    As a job scheduler sends it: what it has ended has not failed.
    """
    options = ["--cursor", "evals.db", "--grace", "1000"]
    call = ["follow", "runs/7b", *options, "--exec", python(STOP)]
    with started(*call, home=home) as follower:
        wait_for(home / "begun")
        follower.send(signal.SIGSTOP)  # It hears of both at once, in whichever order.
        for pid in pids(home):
            os.kill(pid, signal.SIGTERM)
        follower.send(signal.SIGTERM)
        follower.send(signal.SIGCONT)
        code, _, said = follower.end()

    assert (143, "ckptstream: ended: SIGTERM: 0 done, 1 undone") == (code, said[-1])
    assert [1, 2, 3] == undone(home)


def test_a_command_that_asks_is_ended_too(home: Path) -> None:
    """
    What `--timeout-cmd` runs is under way like the others.
    """
    call = ["follow", "runs/7b", "--timeout", "0.01", "--grace", "0", "--timeout-cmd", python(STOP)]
    with started(*call, "--exec", "true", home=home) as follower:
        wait_for(home / "begun")
        follower.send(signal.SIGTERM)

        assert 143 == follower.end()[0]
    wait_until(lambda: not any(map(is_running, pids(home))))


def test_a_reader_that_has_enough(home: Path) -> None:
    """
    What was done is done, and nothing new is begun.
    """
    call = ["follow", "runs/7b", "--cursor", "evals.db", "--output", "logs", "--exec", "true"]
    with started(*call, home=home) as follower:
        for _ in range(3):
            follower.line()
        assert follower.process.stdout is not None
        follower.process.stdout.close()
        train(home / "runs/7b", 4)

        assert 141 == follower.process.wait(60)
    assert [] == undone(home)


def test_nothing_more_can_be_written(home: Path) -> None:
    """
    As on a full disk: it says so and ends, but what was done is done.
    """
    call = "ckptstream follow runs/7b --cursor evals.db --output logs --exec true > /dev/full"
    done = shell(call, home)

    end = "ckptstream: ended: standard output: No space left on device: 1 done"
    assert (1, [end]) == (done.returncode, done.stderr.splitlines())
    assert [2, 3] == undone(home)


def test_a_killed_follower_loses_nothing(home: Path) -> None:
    """
    What it was at comes again.
    """
    call = ["follow", "runs/7b", "--cursor", "evals.db", "--exec", python(STOP)]
    with started(*call, home=home) as follower:
        wait_for(home / "begun")
        follower.process.kill()
        (home / "go").touch()
        follower.process.wait(60)

    assert [1, 2, 3] == undone(home)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exec", ""], "--exec is empty"),
        (["--exec", "echo {ckpt}"], "{ckpt} is not known: use one of {path}, {step}"),
        (["--exec", "echo {setp}"], "(did you mean {step}?)"),
        (["--exec", "evla {path}"], "no program 'evla': check its name"),
        (["--exec", "./evla {path}"], "no program './evla': check its name"),
        (["--exec", "echo 'x"], "close each quotation mark"),
        (["--exec", "true", "--jobs", "0"], "--jobs=0 is too few"),
        (
            ["--exec", "true", "--jobs", "two"],
            "'--jobs': 'two' is not a valid integer",
        ),
        (["--exec", "true", "--grace", "-1"], "--grace=-1.0 is not a length of time"),
        (["--exec", "true", "--json"], "--json has nowhere to go"),
        (["--exec", "true", "--output", "file/logs"], "--output: Not a directory"),
        (["--exec", "true", "--cursor", "nowhere/evals.db"], "cannot be opened"),
        (["--jobs", "2"], "--jobs is for commands"),
        (["--output", "logs"], "--output is for commands"),
        (["--shell"], "--shell is for commands"),
        (["--pin", "2"], "--pin is for commands"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_call_is_one_line(home: Path, arguments: list[str], message: str) -> None:
    """
    With exit code 2, and nothing is started.
    """
    (home / "file").touch()
    done = ckptstream("follow", "runs/7b", *arguments, home=home)

    [line] = done.stderr.splitlines()
    assert (2, "") == (done.returncode, done.stdout)
    assert line.startswith("ckptstream: ")
    assert message in line
