"""Commands that run, each in a process group of its own."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress

import anyio
import anyio.abc

from ._command import Arguments

TERMINATED = 2.0  # seconds until what was terminated is killed
_LOOK = 0.02  # seconds
_STDERR = 2


class Processes:
    """The ones that run now."""

    def __init__(self) -> None:
        self._groups = set[int]()

    def __len__(self) -> int:
        return len(self._groups)

    def kill(self) -> None:
        """End all of them at once."""
        for group in self._groups:
            _send(group, signal.SIGKILL)

    async def run(
        self,
        command: Arguments,
        *,
        env: Mapping[str, str] | None = None,
        output: int | None = None,
    ) -> int:
        """
        Run a command. Cancelled, it ends the whole process group, and returns after that.

        Args:
            command: A line for the shell, or a program and its arguments.
            env: Its environment; None: this one's.
            output: A descriptor for all that it writes; None: where this process writes.

        Returns:
            Its exit code; less than 0: the signal that ended it.

        Raises:
            OSError: It cannot be started.
        """
        process = await _start(command, env, output)
        self._groups.add(process.pid)
        try:
            return await process.wait()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await _end(process)
            raise
        finally:
            self._groups.discard(process.pid)


async def ask(processes: Processes, command: Arguments) -> bool:
    """Whether a command says so, by exit code 0; what it prints is no checkpoint."""
    return await processes.run(command, output=_STDERR) == 0


async def _start(
    command: Arguments, env: Mapping[str, str] | None, output: int | None
) -> anyio.abc.Process:
    with anyio.CancelScope(shield=True):  # Cancelled in the middle, it would be nobody's.
        return await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,  # Ctrl-C is for us: we give it time.
        )
    raise AssertionError  # A shielded scope swallows nothing.


async def _end(process: anyio.abc.Process) -> None:
    group = process.pid
    _send(group, signal.SIGTERM)
    with anyio.move_on_after(TERMINATED):
        while _is_there(group):  # noqa: ASYNC110  # Nobody tells when the last of it has gone.
            await anyio.sleep(_LOOK)
    _send(group, signal.SIGKILL)
    await process.wait()


def _send(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True
