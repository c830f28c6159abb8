"""
What a `ckptstream.layouts.Described` is made of: proofs, a pointer, and signs for `auto`.

A proof of your own is any object with the method `lacking` of `Proof`.
"""

from __future__ import annotations

from ._pointed import Pointed
from ._pointers import Pointer
from ._proofs import (
    Absent,
    AnyOf,
    Footers,
    Holds,
    Marker,
    Proof,
    Renamed,
    Settled,
)
from ._shards import Index, Manifest, Ranks
from ._signs import Signs
from ._subject import Subject

__all__ = [
    "Absent",
    "AnyOf",
    "Footers",
    "Holds",
    "Index",
    "Manifest",
    "Marker",
    "Pointed",
    "Pointer",
    "Proof",
    "Ranks",
    "Renamed",
    "Settled",
    "Signs",
    "Subject",
]
