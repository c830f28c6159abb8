"""Every exception of the package."""

from __future__ import annotations

import errno
from collections.abc import Sequence

# Of a cursor file, where nobody can tell yet which of them it is.
SILENT = "it does not answer: another program keeps it locked, or its storage hangs"


class CheckpointGone(FileNotFoundError):
    """
    Raised by `pin` when the checkpoint was deleted, or written again, before it was pinned.

    Attributes:
        path: The checkpoint's.
        found: What was found instead, in words.
    """

    def __init__(self, path: str, found: str) -> None:
        super().__init__(f"Checkpoint {path!r} is gone, so it cannot be pinned: {found}")
        self.errno = errno.ENOENT
        self.path = path
        self.found = found

    def __reduce__(self) -> tuple[type[CheckpointGone], tuple[str, str]]:
        return type(self), (self.path, self.found)


class CursorError(Exception):
    """
    Raised where a cursor file cannot be used; it is left as it was.

    Attributes:
        path: The file.
        run: The absolute path of the run that another open stream follows with it, in this
            process or in another one; None: something else is wrong.
    """

    def __init__(self, path: str, reason: str, run: str | None = None) -> None:
        super().__init__(f"cursor {path!r}: {reason}")
        self.path = path
        self.run = run
        self._reason = reason

    @classmethod
    def busy(cls, path: str, run: str) -> CursorError:
        """For a run that belongs to somebody."""
        reason = f"another open stream follows {run!r} with it"
        remedy = "close that one, or give a second evaluation a cursor of its own"
        return cls(path, f"{reason}: {remedy}", run)

    def __reduce__(self) -> tuple[type[CursorError], tuple[str, str, str | None]]:
        return type(self), (self.path, self._reason, self.run)


class CursorLocked(CursorError):
    """Raised to a look, which is made again: others use the file. Users get it as the other one."""

    def __init__(self, path: str, reason: str = SILENT, run: str | None = None) -> None:
        super().__init__(path, reason, run)


class PinUnsupported(OSError):
    """
    Raised by `pin` where the filesystem, or its permissions, allow no hard links or no file locks.

    Attributes:
        path: The checkpoint's.
        reason: Why, and what to do about it.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"Checkpoint {path!r} cannot be pinned: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[PinUnsupported], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class UnknownLayout(ValueError):
    """
    Raised where `layout` is a string that is neither a known name nor holds `{step}`.

    Attributes:
        layout: The string.
        known: The names to choose from.
    """

    def __init__(self, layout: str, known: Sequence[str]) -> None:
        import difflib  # Only here: it takes a third as long to import as all of anyio.

        names = ", ".join(map(repr, known))
        close = difflib.get_close_matches(layout.lower(), known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        super().__init__(
            f"layout={layout!r} is not known{hint}: use one of {names}, "
            "or a name with {step} such as 'step_{step}/DONE'"
        )
        self.layout = layout
        self.known = tuple(known)

    def __reduce__(self) -> tuple[type[UnknownLayout], tuple[str, tuple[str, ...]]]:
        return type(self), (self.layout, self.known)


class UnknownOption(ValueError):
    """
    Raised by the first look where a URL has options, or values, that its store does not know.

    Attributes:
        url: The bucket's.
        options: The names of all that there are: which of them it is, nobody says.
    """

    def __init__(self, url: str, options: Sequence[str]) -> None:
        names = ", ".join(map(repr, options))
        problem = f"obstore does not know all of the options {names}, or their values"
        super().__init__(f"{url!r}: {problem}")
        self.url = url
        self.options = tuple(options)

    def __reduce__(self) -> tuple[type[UnknownOption], tuple[str, tuple[str, ...]]]:
        return type(self), (self.url, self.options)
