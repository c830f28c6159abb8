"""
What finished checkpoints look like to each framework, and how to describe your own.

A layout is any object with a `name` and the methods `match`, `missing` and `generation` of
`Layout`; it asks `Evidence` for what it wants to know, and imports and inherits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from .._errors import UnknownLayout
from .._model import FileStat
from ._auto import Auto, judge, pointer_layouts
from ._hugging_face import HuggingFace
from ._orbax import Orbax
from ._protocol import BuiltInLayout, Evidence, Layout, PointerLayout, Verdict
from ._template import Template
from ._tensorflow import TensorFlow

__all__ = [
    "Auto",
    "BuiltInLayout",
    "Evidence",
    "FileStat",
    "HuggingFace",
    "Layout",
    "Orbax",
    "PointerLayout",
    "Template",
    "TensorFlow",
    "Verdict",
    "judge",
    "pointer_layouts",
    "resolve",
]


def resolve(layout: str | Layout, *, state_file: str = "checkpoint") -> Layout:
    """
    The layout that a caller means.

    Args:
        layout: `"auto"`, a known name, a name with `{step}`, or a layout.
        state_file: The name of TensorFlow's state file.

    Raises:
        UnknownLayout: If it is a string, but no known name and without `{step}`.
        ValueError: If it is a string with braces that names no checkpoints.
        TypeError: If it is neither a string nor a layout.
    """
    if not isinstance(layout, str):
        return _checked(layout)
    if "{" in layout:
        return Template(layout)
    known = _known(state_file)
    if layout not in known:
        raise UnknownLayout(layout, tuple(known))
    return known[layout]


@lru_cache(maxsize=8)
def _known(state_file: str) -> Mapping[str, Layout]:
    """The same for all who ask: a program may follow ten thousand runs one by one."""
    tensorflow, hf, orbax = TensorFlow(state_file), HuggingFace(), Orbax()
    known: dict[str, Layout] = {"auto": Auto((tensorflow, hf, orbax))}
    return known | {built_in.name: built_in for built_in in (hf, orbax, tensorflow)}


def _checked(layout: Layout) -> Layout:
    methods = (getattr(layout, method, None) for method in ("match", "missing", "generation"))
    named = isinstance(getattr(layout, "name", None), str) and not isinstance(layout, type)
    if not named or not all(map(callable, methods)):
        raise TypeError(
            f"layout={layout!r} is not a layout: use a string, or an object with a str name and "
            "the methods match, missing and generation"
        )
    return layout
