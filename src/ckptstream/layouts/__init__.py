r"""
What finished checkpoints look like to each framework, and how to describe your own.

A layout is any object with a `name` and the methods `match`, `missing` and `generation` of
`Layout`; it asks `Evidence` for what it wants to know, and imports and inherits nothing. Most
need no code: `Described` makes one of a regular expression and a few proofs.

>>> from ckptstream.layouts import Described, parts
>>> mine = Described(
...     name="mine",
...     example="snap_1000",
...     regex=r"snap_(?P<step>[0-9]+)",
...     directory=(parts.Marker("done.json", step="step"), parts.Ranks(r"rank(?P<rank>[0-9]+)")),
...     data=(r"rank[0-9]+",),
...     own=(r"done\.json",),
... )
>>> mine.match("snap_20")
('snap_20', 20)

All are known by name, too: `layout="deepspeed"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from .._errors import UnknownLayout
from .._model import FileStat
from ._auto import BUILT_IN, Auto, judge, pointer_layouts
from ._described import Described
from ._hugging_face import HuggingFace
from ._orbax import Orbax
from ._presets import PRESETS
from ._protocol import BuiltInLayout, Evidence, Layout, PointerLayout, Verdict
from ._template import Template
from ._tensorflow import TensorFlow

__all__ = [
    "Auto",
    "BuiltInLayout",
    "Described",
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
    tensorflow = TensorFlow(state_file)
    built_in = (tensorflow, *(each for each in BUILT_IN if not isinstance(each, TensorFlow)))
    known: dict[str, Layout] = {each.name: each for each in (*built_in, *PRESETS)}
    return {"auto": Auto(built_in)} | dict(sorted(known.items()))


def _checked(layout: Layout) -> Layout:
    methods = (getattr(layout, method, None) for method in ("match", "missing", "generation"))
    named = isinstance(getattr(layout, "name", None), str) and not isinstance(layout, type)
    if not named or not all(map(callable, methods)):
        raise TypeError(
            f"layout={layout!r} is not a layout: use a string, or an object with a str name and "
            "the methods match, missing and generation"
        )
    return layout
