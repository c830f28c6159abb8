"""Files that name the latest checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from ._files import read_json

POINTER_LIMIT = 8 * 2**20  # bytes that are read: Ray's holds the metrics of every checkpoint
_TEXT_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Pointer:
    """
    A file or symbolic link in the run's directory that names checkpoints.

    Most are written in place: what is empty, cut off or makes no sense names none.

    Args:
        path: Its name.
        number: If it holds a number, what the checkpoint is called, as in `"iter_{:07d}"`.
        words: What it may hold instead of a number.
        keys: If it holds JSON, the keys that lead to names, the latest first; lists are followed.
        paths: Whether it holds a path, whose last part counts: a link may be an absolute one.
    """

    path: str
    number: str = ""
    words: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
    paths: bool = False

    def names(self, content: bytes) -> tuple[str, ...]:
        """The checkpoints named, the latest first; every one a plain name."""
        if self.keys:
            found = list(self._listed(content))
        else:
            text = os.fsdecode(content[: _TEXT_LIMIT + 1]).strip()
            found = [] if len(text) > _TEXT_LIMIT else list(self._text(text))
        return tuple(dict.fromkeys(name for name in found if _is_name(name)))

    def _listed(self, content: bytes) -> Iterator[str]:
        value = read_json(content)
        for keys in self.keys:
            yield from reversed(list(_strings(value, keys)))

    def _text(self, text: str) -> Iterator[str]:
        if not self.number:
            yield text.rpartition("/")[2] if self.paths else text
        elif text in self.words:
            yield text
        elif text.isascii() and text.isdigit() and len(text) <= 250:
            yield self.number.format(int(text))


def _strings(value: object, keys: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _strings(item, keys)
    elif keys and isinstance(value, dict):
        yield from _strings(cast("dict[str, object]", value).get(keys[0]), keys[1:])
    elif isinstance(value, str) and not keys:
        yield value


def _is_name(text: str) -> bool:
    return bool(text) and text not in {".", ".."} and not {"/", "\0", "\n"} & set(text)
