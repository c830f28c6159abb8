from io import FileIO
from os import PathLike
from typing import NamedTuple

class Event(NamedTuple):
    wd: int
    mask: int
    cookie: int
    name: str

class INotify(FileIO):
    def __init__(
        self, inheritable: bool = ..., nonblocking: bool = ..., closefd: bool = ...
    ) -> None: ...
    def add_watch(self, path: str | bytes | PathLike[str], mask: int) -> int: ...
    def rm_watch(self, wd: int) -> None: ...
    def read(  # type: ignore[override]
        self, timeout: int | None = ..., read_delay: int | None = ...
    ) -> list[Event]: ...

def parse_events(data: bytes) -> list[Event]: ...

class flags:
    CREATE: int
    CLOSE_WRITE: int
    MOVED_TO: int
    MOVED_FROM: int
    DELETE: int
    ATTRIB: int
    DELETE_SELF: int
    MOVE_SELF: int
    ONLYDIR: int
    IGNORED: int
    UNMOUNT: int
    Q_OVERFLOW: int
