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


@pytest.mark.parametrize("module", MODULES)
def test_import_is_light(module: str) -> None:
    """
    No other event loop, no database, nothing of the extras.
    """
    heavy = ["aiofiles", "asyncio.subprocess", "numpy", "sqlite3", "trio", "uvloop"]
    program = f"import sys, {module}; print(sorted(set({heavy}) & set(sys.modules)))"
    bare = "import sys, asyncio, anyio.from_thread"
    program = program.replace("import sys,", f"{bare}; before = set(sys.modules); import sys,")
    program = program.replace("set(sys.modules)))", "(set(sys.modules) - before)))")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert ("[]\n", "") == (done.stdout, done.stderr)


def test_import_starts_nothing() -> None:
    """
    No thread, no descriptor, no handler of a logger.
    """
    program = """if True:
        import os, threading, logging
        before = len(os.listdir("/proc/self/fd"))
        import ckptstream, ckptstream.sync
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
