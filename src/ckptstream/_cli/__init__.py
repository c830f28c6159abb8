"""The command line."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence

from ._errors import NOBODY_READS, Refused, one_line, say
from ._parser import parser

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    Returns:
        The exit code: 0; 1 if something has failed, was missed or is set aside; 2 for a wrong
        call; 128 and the signal's number after a signal, such as 130 after Ctrl-C.
    """
    options = parser().parse_args(_alone(sys.argv[1:] if arguments is None else arguments))
    run: Callable[[object], int] = options.run
    try:
        code = run(options)
        sys.stdout.flush()
    except (KeyboardInterrupt, asyncio.CancelledError):  # the latter on Python 3.10
        return _INTERRUPTED
    except BrokenPipeError:
        # Python would flush it once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except Exception as error:
        if options.debug:
            raise
        say(str(error) if isinstance(error, Refused) else one_line(error))
        return 2 if isinstance(error, Refused) else 1
    return code


def _alone(arguments: Sequence[str]) -> list[str]:
    """Have `--pin` take what follows only if that is a number: it may be a directory."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=False)
    return ["--pin=" if a == "--pin" and not after.isdigit() else a for a, after in pairs]
