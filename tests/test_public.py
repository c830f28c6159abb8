"""
What the package promises to whoever imports it.
"""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import ckptstream

MODULES = [
    "ckptstream",
    "ckptstream.sync",
    "ckptstream.layouts",
    "ckptstream.layouts.parts",
    "ckptstream.testing",
]
NAMES = [(name, public) for name in MODULES for public in importlib.import_module(name).__all__]


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_is_there(name: str) -> None:
    """
    Every name is sorted, unique, exists, and is no module.
    """
    module = importlib.import_module(name)
    names: list[str] = module.__all__

    assert sorted(set(names)) == names
    assert [] == [public for public in names if inspect.ismodule(getattr(module, public))]
    assert (module.__doc__ or "").strip()


def test_names_that_are_fixed() -> None:
    """
    Programs are written against these.
    """
    values = {"Checkpoint", "CheckpointStream", "Missed", "RunStatus", "Status", "UnknownLayout"}
    errors = {"CheckpointGone", "PinUnsupported"}
    functions = {"checkpoints_iterator", "follow", "latest_checkpoint", "wait_for_new_checkpoint"}

    assert values | errors | functions | {"pin"} <= set(ckptstream.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_at_most_fifteen_names(name: str) -> None:
    """
    A module can be learnt at once.
    """
    assert len(importlib.import_module(name).__all__) <= 15


@pytest.mark.parametrize(("module", "name"), NAMES, ids=".".join)
def test_every_public_object_is_documented(module: str, name: str) -> None:
    """
    Itself, and each of its public methods.
    """
    thing = getattr(importlib.import_module(module), name)
    members = vars(thing).items() if inspect.isclass(thing) else ()
    silent = [
        key
        for key, member in members
        if not key.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property))
        and not inspect.getdoc(getattr(thing, key))
    ]

    assert (thing.__doc__ or "").strip()
    assert not (thing.__doc__ or "").startswith(f"{name}(")  # a dataclass without one
    assert [] == silent


def everything(module: str) -> str:
    """
    Imports all of it: some is imported only when it is asked for.
    """
    return f"from {module} import {', '.join(importlib.import_module(module).__all__)}"


@pytest.mark.parametrize("module", MODULES)
def test_import_is_light(module: str) -> None:
    """
    No other event loop, no database, nothing of the extras.
    """
    heavy = ["aiofiles", "asyncio.subprocess", "numpy", "sqlite3", "trio", "uvloop"]
    program = f"""if True:
        import sys, asyncio, anyio.from_thread
        before = set(sys.modules)
        {everything(module)}
        print(sorted(set({heavy}) & (set(sys.modules) - before)))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert ("[]\n", "") == (done.stdout, done.stderr)


def output(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("module", ["ckptstream", "ckptstream._cli"])
def test_names_are_imported_when_they_are_asked_for(module: str) -> None:
    """
    Before that there is next to nothing in which Ctrl-C could come.
    """
    program = f"import sys, {module}; print([n for n in sys.modules if 'ckptstream.' in n])"

    assert f"{['ckptstream._cli'] if module == 'ckptstream._cli' else []}\n" == output(program)


@pytest.mark.parametrize("name", [*ckptstream.__all__, "layouts", "sync", "testing"])
def test_each_name_is_there_by_itself(name: str) -> None:
    """
    Whichever is asked for first, and in what `dir` says before.
    """
    assert "True True\n" == output(
        f"import ckptstream; print({name!r} in dir(ckptstream), bool(ckptstream.{name}))"
    )


def test_no_other_name_is_there() -> None:
    """
    A misspelt one is an AttributeError, as ever.
    """
    with pytest.raises(AttributeError, match="module 'ckptstream' has no attribute 'folow'"):
        getattr(ckptstream, "folow")  # noqa: B009  # checkers know that it is not there


def test_import_starts_nothing() -> None:
    """
    No thread, no descriptor, no handler of a logger.
    """
    program = """if True:
        import os, threading, logging
        before = len(os.listdir("/proc/self/fd"))
        import ckptstream.sync
        from ckptstream import follow, pin
        print(len(os.listdir("/proc/self/fd")) - before, threading.active_count())
        print(logging.root.handlers, logging.getLogger("ckptstream").handlers)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert "0 1\n[] []\n" == done.stdout


def test_version_is_the_projects() -> None:
    """
    The metadata of what is installed are those of this checkout.
    """
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    (declared,) = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)

    assert declared == version("ckptstream")


def test_package_is_typed() -> None:
    """
    Type checkers read its annotations.
    """
    assert (Path(ckptstream.__file__).parent / "py.typed").is_file()
