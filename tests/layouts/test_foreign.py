"""A layout as somebody else writes it: `Stable` knows nothing of this package."""

import re
from pathlib import Path
from typing import Any

import pytest
from evidence import Run, write
from steering import drained, run_status, virtual

from ckptstream import follow
from ckptstream.layouts import Layout, judge, pointer_layouts, resolve
from ckptstream.testing import ManualWatcher


class Stable:
    """`step_5/STABLE`, and a text file `latest` that names it after that."""

    name = "prime-rl"
    pointer = "latest"

    def match(self, name: str) -> "tuple[str, int | None] | None":
        found = re.fullmatch("step_([0-9]+)", name)
        return found and (name, int(found[1]))

    def missing(self, name: str, evidence: Any) -> "str | None":
        if not evidence.stat(f"{name}/STABLE"):
            return "no STABLE"
        return None if evidence.named else "not named"

    def generation(self, name: str, evidence: Any) -> "str | None":
        fingerprint: str | None = evidence.fingerprint(f"{name}/STABLE")
        return fingerprint

    def pointed(self, content: bytes) -> "tuple[str, ...]":
        return tuple(content.decode(errors="replace").split())


def test_judge(tmp_path: Path) -> None:
    """
    A layout that imports and inherits nothing is one.
    """
    layout: Layout = resolve(Stable())
    run = Run(tmp_path, layout)
    write(tmp_path / "step_5/model.safetensors")
    assert ("prime-rl", 5, "no STABLE", None) == run.judge("step_5")

    write(tmp_path / "step_5/STABLE", "")
    assert "not named" == run.judge("step_5").missing

    write(tmp_path / "latest", "step_5\n")
    look = run.look("step_5")
    assert judge(layout, "step_5", look) == (
        "prime-rl",
        5,
        None,
        look.fingerprint("step_5/STABLE"),
    )


def test_pointer() -> None:
    """
    The pointer's two names make it a layout with a pointer.
    """
    layout = Stable()

    assert (layout,) == pointer_layouts(layout)
    assert ("step_5",) == layout.pointed(b"step_5\n")


@pytest.mark.anyio
@virtual
async def test_it_is_followed(run: Path, watcher: ManualWatcher) -> None:
    """
    A stream delivers what it says is finished, and remembers what its pointer has named.
    """
    stream = follow(run, layout=Stable(), watcher=watcher)
    write(run / "latest", "step_4 ")
    for step in (5, 6):
        for path, missing in (("model.safetensors", "no STABLE"), ("STABLE", "not named")):
            write(run / f"step_{step}" / path)
            watcher.touch()
            assert [] == await drained(stream, watcher)
            assert {f"step_{step}": missing} == run_status(stream).unfinished
        write(run / "latest", f"step_{step}\n")
        watcher.touch()
        found = [(each.path, each.step, each.layout) for each in await drained(stream, watcher)]
        assert [(str(run / f"step_{step}"), step, "prime-rl")] == found

    watcher.touch()
    assert [] == await drained(stream, watcher)
    assert () == run_status(stream).missed
