"""The cursor: a file that remembers what was done, across restarts."""

from ._cursor import Cursor
from ._reading import remembered
from ._records import Claim, Memory, Record, State

__all__ = ["Claim", "Cursor", "Memory", "Record", "State", "remembered"]
