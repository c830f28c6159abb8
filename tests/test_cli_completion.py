"""
What a shell completes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import COMMAND, SECONDS


def complete(line: str, shell: str = "bash") -> list[str]:
    """
    What is offered for the last word of a line.
    """
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        asked["COMP_CWORD"] = words[-1]
    environment = {**os.environ, **asked, "_CKPTSTREAM_COMPLETE": f"{shell}_complete"}
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert "" == done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ckptstream fo", ["plain,follow"]),
        ("ckptstream follow --until", ["plain,--until-step"]),
        ("ckptstream follow --layout meg", ["plain,megatron", "plain,megatron-bridge"]),
        ("ckptstream follow --watcher p", ["plain,poll"]),
        ("ckptstream ls ru", ["dir,ru"]),
        ("ckptstream ls --cursor ev", ["file,ev"]),
    ],
)
def test_what_is_offered(line: str, offered: list[str]) -> None:
    """
    Commands, options, layouts, directories, files.
    """
    assert offered == complete(line)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    """
    As the help says to evaluate it.
    """
    environment = {**os.environ, "_CKPTSTREAM_COMPLETE": f"{shell}_source"}
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert f"{shell}_complete" in done.stdout


def test_in_a_real_shell(tmp_path: Path) -> None:
    """
    bash evaluates the script, and has it complete.
    """
    command = tmp_path / "ckptstream"
    command.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    script = """
    eval "$(_CKPTSTREAM_COMPLETE=bash_source ckptstream)"
    COMP_WORDS=(ckptstream doc) COMP_CWORD=1
    _ckptstream_completion ckptstream
    echo "${COMPREPLY[@]}"
    """
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert ("doctor\n", "") == (done.stdout, done.stderr)
