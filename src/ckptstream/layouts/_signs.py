"""By what `auto` tells who wrote an entry."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ._files import newer_than
from ._protocol import Evidence
from ._subject import find

_HEAD = 512  # torch.save's first member is called after the file, of up to 255 bytes


@dataclass(frozen=True, slots=True)
class Signs:
    """
    What a framework leaves in an entry that tells it from the others whose names look alike.

    Files of a directory are described as `Subject.find` has them: a regular expression per level.

    Args:
        words: The same for a person: what is looked for, in short.
        own: What no other framework writes into an entry of such a name.
        shared: What this one writes, too.
        first: What it writes before anything else: other files without this one are not its own.
        late: What it writes after what *shared* finds: an older one is not its own.
        never: What it never writes; with a sign of its own somebody else has added that.
        beside: Names beside the entry that no other framework writes.
        head: A regular expression for the first bytes, if the entry is a file.
    """

    words: str
    own: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    first: str = ""
    late: str = ""
    never: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    head: bytes = b""

    def in_directory(self, name: str, evidence: Evidence) -> bool:
        """Whether a directory bears a sign of its own, or one that nothing speaks against."""

        def there(patterns: tuple[str, ...]) -> bool:
            return any(find(name, pattern, evidence) for pattern in patterns)

        if self.owns(name, evidence, is_directory=True):
            return True
        if self.first and not there((self.first,)):
            return False
        return self._shares(name, evidence) and not there(self.never)

    def _shares(self, name: str, evidence: Evidence) -> bool:
        files = [path for pattern in self.shared for path in find(name, pattern, evidence)]
        late = find(name, self.late, evidence) if self.late else ()
        return bool(files) and not any(newer_than(path, files, evidence) for path in late)

    def in_file(self, name: str, evidence: Evidence) -> bool:
        """Whether a file begins as it should."""
        head = evidence.head(name, _HEAD) if self.head else None
        return bool(head) and re.match(self.head, head or b"", re.DOTALL) is not None

    def found(self, name: str, evidence: Evidence, *, is_directory: bool) -> str | None:
        """The first file that is a sign; None if there is none, or the entry itself is one."""
        inside = (*self.own, *self.shared) if is_directory else ()
        files = (path for pattern in inside for path in find(name, pattern, evidence))
        beside = (other for other in self.beside if evidence.stat(other) is not None)
        found = next(files, None) or next(beside, None)
        return None if found is None else found.removeprefix(f"{name}/")

    def owns(self, name: str, evidence: Evidence, *, is_directory: bool) -> bool:
        """Whether there is a sign that no other framework leaves."""
        inside = self.own if is_directory else ()
        if any(find(name, pattern, evidence) for pattern in inside):
            return True
        return any(evidence.stat(other) is not None for other in self.beside)
