"""
What strace(1) saw, as the operations of a trace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

CALLS = (
    "open openat creat mkdir mkdirat rename renameat renameat2 unlink unlinkat rmdir symlink "
    "symlinkat link linkat write pwrite64 writev ftruncate sendfile copy_file_range chmod fchmod "
    "fchmodat lseek utimensat"
)
COMMAND = ["strace", "-f", "-y", "-xx", "-s", "10000000", "--seccomp-bpf"]
COMMAND += ["-e", f"trace={CALLS.replace(' ', ',')}", "-o"]

_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_HEX = r"(?:\\x[0-9a-f]{2})*"
_STRING = re.compile(rf'"({_HEX})"')
_DESCRIPTOR = re.compile(rf"(AT_FDCWD|-?\d+)<({_HEX})>")


@dataclass(eq=False)
class Content:
    """
    What was written into a file between two times that it was emptied; `parts`: in how many goes.
    """

    data: bytearray = field(default_factory=bytearray)
    parts: int = 0

    def put(self, place: int, data: bytes) -> None:
        self.data.extend(bytes(max(0, place - len(self.data))))
        self.data[place : place + len(data)] = data


@dataclass(eq=False)
class Operation:
    """
    One line of the trace to be.
    """

    verb: str
    paths: tuple[str, ...]
    content: Content | None = None
    part: int = 0

    @property
    def moments(self) -> int:
        return 2 if self.verb == "write" else 1


@dataclass
class Call:
    """
    A system call that succeeded.
    """

    name: str
    text: str
    result: int
    strings: list[bytes]
    descriptors: list[tuple[str, str]]

    def path(self, number: int = 0) -> str:
        """
        The path that its argument means, from the root.
        """
        path = os.fsdecode(self.strings[number])
        above = [directory for _, directory in self.descriptors]
        below = above[min(number, len(above) - 1)] if above else "/"
        return os.path.normpath(os.path.join(below, path))


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """
    The calls in the order in which they came back.
    """
    waiting = dict[str, str]()
    for line in lines:
        if unfinished := _UNFINISHED.match(line):
            waiting[unfinished[1]] = unfinished[0].removesuffix(" <unfinished ...>")
            continue
        resumed = _RESUMED.match(line)
        call = _CALL.match(waiting.pop(resumed[1], "") + resumed[2] if resumed else line)
        if call is not None and int(call[4]) >= 0:
            arguments = call[3]
            yield Call(
                call[2],
                arguments,
                int(call[4]),
                [_bytes(text) for text in _STRING.findall(arguments)],
                [(fd, os.fsdecode(_bytes(path))) for fd, path in _DESCRIPTOR.findall(arguments)],
            )


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class Recording:
    """
    The operations on the files below *sandbox*, as seen from the directory *run* in it.
    """

    def __init__(self, sandbox: str, run: str) -> None:
        self.operations: list[Operation] = []
        self._sandbox, self._run = sandbox, run
        self._files = dict[str, Content]()
        self._places = dict[tuple[str, str], int]()

    def add(self, call: Call) -> None:
        """
        Note what a call did.
        """
        handler: Callable[[Call], None] | None = getattr(self, f"_{call.name}", None)
        if handler is not None:
            handler(call)

    def _note(self, verb: str, *paths: str, content: Content | None = None) -> None:
        if not all(path.startswith(self._sandbox) for path in paths):
            return
        relative = tuple(os.path.relpath(path, self._run) for path in paths)
        self.operations.append(Operation(verb, relative, content))

    def _openat(self, call: Call) -> None:
        path, flags = call.path(), call.text
        self._places[str(call.result), path] = 0
        if "O_CREAT" not in flags and "O_TRUNC" not in flags:
            return
        if "O_TRUNC" in flags or path not in self._files:
            self._files[path] = Content()
            self._note("create", path)
        if "O_APPEND" in flags:
            self._places[str(call.result), path] = len(self._files[path].data)

    _open = _creat = _openat

    def _write(self, call: Call) -> None:
        data = b"".join(call.strings)[: call.result]
        place = self._places.get(call.descriptors[0], 0)
        self._put(call.descriptors[0][1], place, data)
        self._places[call.descriptors[0]] = place + call.result

    _writev = _write

    def _pwrite64(self, call: Call) -> None:
        place = int(call.text.rpartition(",")[2])
        self._put(call.descriptors[0][1], place, call.strings[0][: call.result])

    def _put(self, path: str, place: int, data: bytes) -> None:
        content = self._files.get(path)
        if content is None or not data:
            return
        content.put(place, data)
        last = self.operations[-1] if self.operations else None
        again = last is not None and last.verb == "write" and last.content is content
        if not again and path.startswith(self._sandbox):
            content.parts += 1
            self._note("write", path, content=content)
            self.operations[-1].part = content.parts

    def _lseek(self, call: Call) -> None:
        self._places[call.descriptors[0]] = call.result

    def _sendfile(self, call: Call) -> None:
        self._copy(call, *call.descriptors[:2])

    def _copy_file_range(self, call: Call) -> None:
        self._copy(call, call.descriptors[1], call.descriptors[0])

    def _copy(self, call: Call, target: tuple[str, str], source: tuple[str, str]) -> None:
        place, data = self._places.get(target, 0), self._files.get(source[1], Content()).data
        self._put(target[1], place, bytes(data[place : place + call.result]))
        self._places[target] = place + call.result

    def _ftruncate(self, call: Call) -> None:
        path, size = call.descriptors[0][1], int(call.text.rpartition(",")[2])
        content = self._files.get(path)
        if content is not None and not content.data and size:
            content.put(size, b"")
            self._note("zeros", path, content=content)

    def _mkdir(self, call: Call) -> None:
        self._note("mkdir", call.path())

    _mkdirat = _mkdir

    def _rename(self, call: Call) -> None:
        old, new = call.path(0), call.path(1)
        self._note("rename", old, new, content=self._files.get(old))
        for path in [path for path in self._files if f"{path}/".startswith(f"{old}/")]:
            self._files[new + path.removeprefix(old)] = self._files.pop(path)

    _renameat = _renameat2 = _rename

    def _unlink(self, call: Call) -> None:
        self._files.pop(call.path(), None)
        self._note("unlink", call.path())

    def _unlinkat(self, call: Call) -> None:
        (self._rmdir if "AT_REMOVEDIR" in call.text else self._unlink)(call)

    def _rmdir(self, call: Call) -> None:
        self._note("rmdir", call.path())

    def _symlink(self, call: Call) -> None:
        path = os.path.normpath(os.path.join(self._sandbox, call.path(1)))
        self._note("symlink", path)
        if path.startswith(self._sandbox):
            target = os.fsdecode(call.strings[0])
            self.operations[-1].paths = (target, os.path.relpath(path, self._run))

    _symlinkat = _symlink

    def _link(self, call: Call) -> None:
        self._note("link", call.path(0), call.path(1))
        if call.path(0) in self._files:
            self._files[call.path(1)] = self._files[call.path(0)]

    _linkat = _link

    def _chmod(self, call: Call) -> None:
        path = call.path() if call.strings else call.descriptors[0][1]
        self._note("chmod", path)
        if path.startswith(self._sandbox):
            mode = re.findall(r"\b0\d+", _STRING.sub("", call.text))[-1]
            self.operations[-1].paths = (mode, *self.operations[-1].paths)

    _fchmod = _fchmodat = _chmod

    def _utimensat(self, call: Call) -> None:
        """
        Only `shutil` sets times here: to those of the file that it has copied before.
        """
        if not call.strings or not call.path().startswith(self._sandbox):
            return
        path, moments = os.path.relpath(call.path(), self._run), 1
        for operation in reversed(self.operations):
            moments += operation.moments
            if operation.verb == "create" and operation.paths == (path,):
                break
        self.operations.append(Operation("utime", (path, str(moments))))
