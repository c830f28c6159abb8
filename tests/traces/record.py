"""
Records the traces of real frameworks again: python tests/traces/record.py [NAME...]

It needs strace(1), and must run with a Python in which the frameworks are installed, such as that
of `tox -e frameworks`. A trace whose framework is not there is left as it is.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from annotating import Annotator
from recipes import RECIPES, Recipe
from recording import COMMAND, Operation, Recording, calls

HERE = Path(__file__).parent
WRITERS = HERE.parent / "frameworks" / "writers"
QUIET = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "HF_HUB_OFFLINE": "1",
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def main(names: list[str]) -> None:
    for name in names or RECIPES:
        try:
            versions = [f"{p} {importlib.metadata.version(p)}" for p in RECIPES[name].packages]
        except importlib.metadata.PackageNotFoundError as error:
            print(f"{name}: {error}")
            continue
        lines = [*head(RECIPES[name], versions), "", *record(RECIPES[name])]
        (HERE / f"{name}.trace").write_text("\n".join([*lines, ""]))
        print(f"{name}: {len(lines)} lines")


def head(recipe: Recipe, versions: list[str]) -> Iterator[str]:
    yield from (f"# {line}" for line in (recipe.title, *recipe.notes))
    yield f"layout: {recipe.layout}"
    yield f"recorded: {', '.join(versions)}"
    yield f"evidence: {recipe.evidence}"
    yield from (f"{key}: {value}" for key, value in recipe.more.items())


def record(recipe: Recipe) -> Iterator[str]:
    """
    Let the framework write, each command after the one before, and say what it did.
    """
    with tempfile.TemporaryDirectory() as directory:
        sandbox = Path(directory).resolve()
        run = sandbox / recipe.run
        recording = Recording(f"{sandbox}/", str(run))
        run.mkdir()
        for number, command in enumerate(recipe.commands):
            log = sandbox.with_name(f"{sandbox.name}-{number}.strace")
            try:
                trace(command.format(run=run).split(), recipe.temporary or directory, log)
                with log.open() as lines:
                    for call in calls(lines):
                        recording.add(call)
            finally:
                log.unlink(missing_ok=True)
        annotator = Annotator(recipe.rules, str(run))
        yield from annotator.lines(chosen(recipe, recording))


def trace(command: list[str], temporary: str, log: Path) -> None:
    script, *arguments = command
    python = [sys.executable, str(WRITERS / script), *arguments]
    environment = {**os.environ, **QUIET, "TMPDIR": temporary}
    strace = [*COMMAND, str(log), *python]
    subprocess.run(strace, check=True, timeout=600, env=environment, stdin=subprocess.DEVNULL)


def chosen(recipe: Recipe, recording: Recording) -> list[Operation]:
    """
    Without what has nothing to do with checkpoints.
    """
    return [item for item in recording.operations if not recipe.ignores(item.paths)]


if __name__ == "__main__":
    main(sys.argv[1:])
