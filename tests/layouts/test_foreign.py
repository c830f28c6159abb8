"""A layout as somebody else writes it: `Stable` knows nothing of this package."""

import re
from pathlib import Path
from typing import Any

from evidence import Run, write

from ckptstream.layouts import Layout, judge, pointer_layouts, resolve


class Stable:
    """prime-rl's broadcasts: `step_5/STABLE`, and a text file `latest` that names the newest."""

    name = "prime-rl"
    pointer = "latest"

    def match(self, name: str) -> "tuple[str, int | None] | None":
        found = re.fullmatch("step_([0-9]+)", name)
        return found and (name, int(found[1]))

    def missing(self, name: str, evidence: Any) -> "str | None":
        return None if evidence.stat(f"{name}/STABLE") else "no STABLE"

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
