"""What all streams of one event loop share."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from anyio.lowlevel import RunVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """
    One object for each event loop; it lives as long as somebody holds it.

    Args:
        name: What the variable is called in the event loop.
        make: Makes the object, when it is asked for in its event loop.
    """

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        # Weak: a strong value would keep the object, through it the loop's last callbacks, for
        # ever.
        self._references: RunVar[weakref.ref[T]] = RunVar(name)
        self._make = make

    def __call__(self) -> T:
        """The object of the event loop that runs now."""
        reference = self._references.get(None)
        held = None if reference is None else reference()
        if held is None:
            held = self._make()
            self._references.set(weakref.ref(held))
        return held
