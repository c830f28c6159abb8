"""The command line."""

from __future__ import annotations

import sys

INTERRUPTED = 130  # the exit code, as if SIGINT had ended it


def main(arguments: list[str] | None = None) -> int:
    """
    Run the command.

    Returns:
        The exit code: 0; 1 if something has failed, was missed or is set aside; 2 for a wrong
        call; 128 and the signal's number after a signal, such as 130 after Ctrl-C.
    """
    try:
        return _start(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _start(arguments: list[str] | None) -> int:
    # Imported here, and not above: Ctrl-C may come meanwhile.
    from ._saying import say, speaking
    from ._standard import open_streams

    if not open_streams():
        say("standard output is closed: give '> /dev/null' if nobody is to read it")
        return 2
    try:
        from ._main import run
    except ImportError as error:
        if error.name not in {"click", "rich"}:
            raise
        say(f"the command line needs {error.name}: pip install 'ckptstream[cli]'")
        return 2
    with speaking():
        return run(sys.argv[1:] if arguments is None else arguments)
