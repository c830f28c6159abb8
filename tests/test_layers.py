"""
The shape of the package: what may import what, and how long a module may be.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ckptstream

ROOT = Path(ckptstream.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
PACKAGES = {"_cli", "_cursor", "_pins", "_scan", "_stores", "_stream", "_threads", "_trainer"}
PACKAGES |= {"_watchers", "layouts", "sync"}

# A module imports only from lines below its own; the package itself is `__init__`.
LAYERS: list[set[str]] = [
    {"__main__"},
    {"_cli", "sync", "testing"},
    {"__init__"},
    {"_stream", "_trainer"},
    {"_scan", "_pins"},
    {"layouts", "_stores", "_watchers", "_cursor"},
    {"_portals", "_threads"},
    {"_model", "_errors"},
]
LINE = {name: number for number, names in enumerate(LAYERS) for name in names}


def imported(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """
    The top-level parts of ckptstream that a module in *package* imports, anywhere in its text.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            paths = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = base + tuple(node.module.split(".") if node.module else ())
            paths = [(*origin, alias.name) for alias in node.names]
        else:
            continue
        for path in paths:
            if path[0] == "ckptstream":
                yield path[1] if path[1:] and path[1] in LINE else "__init__"


def part_of(module: Path) -> str:
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_lines_below_its_own(module: Path) -> None:
    """
    Each layer can be read, tested and replaced without those above it.
    """
    part = part_of(module)
    package = ("ckptstream", *module.relative_to(ROOT).parts[:-1])

    upwards = {
        name
        for name in imported(module.read_text(), package)
        if LINE[name] <= LINE[part] and not (name == part and part in PACKAGES)
    }

    assert set() == upwards


def test_every_module_has_a_line_of_its_own() -> None:
    """
    A new module is placed on a line before it is merged.
    """
    assert set() == {part_of(module) for module in MODULES} - set(LINE)


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("from . import follow", ("ckptstream",), {"__init__"}),
        ("from . import _model", ("ckptstream",), {"_model"}),
        ("from ._model import Status", ("ckptstream",), {"_model"}),
        ("from .._threads import Pool", ("ckptstream", "_scan"), {"_threads"}),
        ("from ._look import look", ("ckptstream", "_scan"), {"_scan"}),
        ("import ckptstream.sync", (), {"sync"}),
        ("def late():\n    from ckptstream import layouts", (), {"layouts"}),
        ("import anyio, os", ("ckptstream",), set[str]()),
    ],
)
def test_every_kind_of_import_is_seen(
    source: str, package: tuple[str, ...], expected: set[str]
) -> None:
    """
    Relative, absolute and late imports count alike.
    """
    assert expected == set(imported(source, package))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_under_300_lines(module: Path) -> None:
    """
    A module fits into one's head.
    """
    assert len(module.read_text().splitlines()) < 300
