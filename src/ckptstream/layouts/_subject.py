"""One checkpoint as a proof sees it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import NamedTuple

from ._names import is_temporary, remember_few
from ._protocol import Evidence, Match


class Subject(NamedTuple):
    """
    The checkpoint that a proof is asked about.

    Attributes:
        name: Its name in the run's directory.
        step: Its number, if its name has one.
        data: The paths of what its layout calls data, as far as it is there.
        own: The file that tells its generation, if there is one.
        renewed: Whether an earlier look found it finished, and that file has been written again.
        pointer: The name of its layout's pointer file; may be empty.
        pointing: Reads the pointer: the checkpoints that it names now, the latest first.
        evidence: What can be asked.
    """

    name: str
    step: int | None
    data: tuple[str, ...]
    own: str | None
    renewed: bool
    pointer: str
    pointing: Callable[[], list[Match]]
    evidence: Evidence

    def find(self, pattern: str) -> list[str]:
        """What there is in the directory that fits *pattern*, a regular expression per level."""
        return find(self.name, pattern, self.evidence)

    def short(self, path: str) -> str:
        """How to call a file in a sentence about this checkpoint."""
        return path.removeprefix(f"{self.name}/")


def find(directory: str, pattern: str, evidence: Evidence) -> list[str]:
    """
    What lies in a directory and fits *pattern*: a regular expression for each level, in order.

    Names that frameworks give to unfinished files fit nothing.
    """
    found = [directory]
    for part in pattern.split("/"):
        found = [f"{path}/{name}" for path in found for name in _fitting(evidence.list(path), part)]
    return found


# A profile of the first look showed a third of the time in asking of each single name whether it
# fits each pattern.
@remember_few
def _fitting(names: Collection[str], part: str) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if fits(part, name)))


@lru_cache(maxsize=10_000)
def fits(pattern: str, name: str) -> bool:
    """Whether a name fits a regular expression and is not a temporary one."""
    return re.fullmatch(pattern, name, re.DOTALL) is not None and not is_temporary(name)
