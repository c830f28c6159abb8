"""
The demo, as a user starts it: a process of its own.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from importlib.metadata import version

import pytest

from ckptstream import UnknownLayout
from ckptstream.layouts import resolve

COMMAND = [sys.executable, "-m", "ckptstream"]
SECONDS = 60


def resolvable() -> tuple[str, ...]:
    """
    The layouts that have a name.
    """
    with pytest.raises(UnknownLayout) as unknown:
        resolve("none")
    return unknown.value.known


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "ckptstream", *arguments)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.parametrize(
    ("layout", "name", "recognised"),
    [
        ("hf", "checkpoint-{}", "hf"),
        ("orbax", "{}", "orbax"),
        ("tensorflow", "ckpt-{}", "tensorflow"),
        ("step_{step}/DONE", "step_{}", "step_{step}/DONE"),
        ("megatron", "iter_000000{}", "megatron"),
        ("maxtext", "{}", "orbax"),
    ],
)
def test_demo_prints_each_checkpoint_and_ends(layout: str, name: str, recognised: str) -> None:
    """
    One line per checkpoint, in order, then how it ended.
    """
    done = run("demo", "--layout", layout, "--count", "3", "--interval", "0.1")

    assert ("", 0) == (done.stderr, done.returncode)
    first, *lines, last = done.stdout.splitlines()
    assert first.startswith("A simulated trainer saves 3 checkpoints to ")
    late = r" +(\d+\.\d) ms after the trainer finished it"
    for step, line in enumerate(lines, 1):
        start = f"{name.format(step)} +step {step} +{recognised}"
        assert re.fullmatch(start.replace("{step}", r"\{step\}") + late, line), line
    assert 3 == len(lines)
    assert re.fullmatch("Ended: .+; 3 of 3 delivered", last)


@pytest.mark.parametrize("layout", ["keras-backup", "ray"])
def test_demo_of_a_layout_without_steps(layout: str) -> None:
    """
    It ends when all have come.
    """
    done = run("demo", "--layout", layout, "--count", "2", "--interval", "0.3")

    assert ("", 0) == (done.stderr, done.returncode)
    _, *lines, last = done.stdout.splitlines()
    assert 2 == len(lines)
    assert all(re.search(rf" step - +{layout} ", line) for line in lines)
    assert last.endswith("; 2 of 2 delivered")


def test_demo_of_several_runs() -> None:
    """
    They train at once, and a pattern follows them; each in its own order.
    """
    done = run("demo", "--runs", "3", "--count", "3", "--interval", "0.1")

    assert ("", 0) == (done.stderr, done.returncode)
    first, *lines, last = done.stdout.splitlines()
    assert re.fullmatch("3 simulated trainers save 3 checkpoints each to .+/run-[*]", first)
    for number in (1, 2, 3):
        own = [line.split()[0] for line in lines if line.startswith(f"run-{number}/")]
        assert [f"run-{number}/checkpoint-{step}" for step in (1, 2, 3)] == own
    assert 9 == len(lines)
    assert last.endswith("; 9 of 9 delivered")


@pytest.mark.thorough
@pytest.mark.parametrize("layout", [name for name in resolvable() if name != "auto"])
def test_demo_of_every_layout(layout: str) -> None:
    """
    All that is saved comes.
    """
    done = run("demo", "--layout", layout, "--count", "2", "--interval", "0.3")

    assert 0 == done.returncode, done.stderr
    assert "Ended: all is trained; 2 of 2 delivered" == done.stdout.splitlines()[-1]


def test_demo_takes_seconds() -> None:
    """
    Without options it is over in less than 15 seconds.
    """
    done = subprocess.run([*COMMAND, "demo"], capture_output=True, timeout=15, check=False)

    assert (b"", 0) == (done.stderr, done.returncode)


def test_interrupted_demo_leaves_quietly() -> None:
    """
    Ctrl-C exits with 130 and no traceback.
    """
    with subprocess.Popen(
        [*COMMAND, "demo", "--count", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        lines = [demo.stdout.readline(), demo.stdout.readline()]
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=SECONDS)

    assert lines[1].startswith("checkpoint-1 ")
    assert ("", 130) == (errors, demo.returncode)


def test_demo_without_aiofiles_says_what_to_install() -> None:
    """
    One line, no traceback.
    """
    program = """if True:
        import sys
        sys.modules["aiofiles"] = None
        from ckptstream._cli import main
        sys.exit(main(["demo"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert 2 == done.returncode
    assert "ckptstream: the demo needs aiofiles: pip install 'ckptstream[cli]'\n" == done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--layout", "hff"], "layout='hff' is not known"),
        (["demo", "--count", "0"], "steps=0 saves nothing"),
        (["demo", "--runs", "0"], "--runs=0 trains nothing"),
        (["demo", "--interval", "nan"], "interval=nan is no time"),
        ([], "Missing command"),
    ],
)
def test_wrong_call_exits_with_2(arguments: list[str], message: str) -> None:
    """
    What is wrong stands on standard error.
    """
    done = run(*arguments)

    assert 2 == done.returncode
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_version() -> None:
    """
    The installed one.
    """
    assert f"ckptstream {version('ckptstream')}\n" == run("--version").stdout
