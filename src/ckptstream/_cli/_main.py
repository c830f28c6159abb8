"""The command itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from . import INTERRUPTED
from ._command_line import Group
from ._errors import NOBODY_READS, Refused, one_line
from ._saying import say, trace

_NAME = "ckptstream"
_COMPLETE = "_CKPTSTREAM_COMPLETE"  # as click names it: what a shell asks for
_EXAMPLES = """\
examples:
  ckptstream follow runs/7b --timeout 3600
  ckptstream follow 'sweeps/*/checkpoints' --exec 'python eval.py {path}' --cursor evals.db
  ckptstream ls runs/7b

'ckptstream COMMAND --help' says more of each command.
For completion: eval "$(_CKPTSTREAM_COMPLETE=bash_source ckptstream)", or zsh_source, fish_source.
"""

WHOLE = Group(
    _NAME,
    {
        "follow": ("_follow", "Print each checkpoint as soon as it is finished."),
        "ls": ("_ls", "List what is there, and why it is not finished."),
        "doctor": ("_doctor", "Say what can be relied on where a run lies."),
        "demo": ("_demo", "Watch a simulated trainer."),
    },
    _EXAMPLES,
)
WHOLE.help = "An async stream of new machine-learning checkpoints."
click.version_option(package_name=_NAME, message="%(prog)s %(version)s")(WHOLE)


def run(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit code."""
    instruction = os.environ.get(_COMPLETE)
    if instruction:
        return shell_complete(WHOLE, {}, _NAME, _COMPLETE, instruction)
    debug = "--debug" in arguments
    try:
        with WHOLE.make_context(_NAME, _alone(arguments)) as context:
            code: int = WHOLE.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        say(f"{error.format_message().rstrip('.')} (see '{_path(error)} --help')")
        return 2
    except BrokenPipeError:
        # Python would flush it once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except Exception as error:
        if debug:
            trace(error)
            return 1
        say(str(error) if isinstance(error, Refused) else one_line(error))
        return 2 if isinstance(error, Refused) else 1
    except BaseException as error:
        # So Python 3.10 ends after Ctrl-C; importing asyncio for its name would take the longest.
        if type(error).__name__ != "CancelledError":
            raise
        return INTERRUPTED
    return code


def _path(error: click.UsageError) -> str:
    return _NAME if error.ctx is None else error.ctx.command_path


def _alone(arguments: Sequence[str]) -> list[str]:
    """Have `--pin` take what follows only if that is a number: it may be a directory."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=False)
    return ["--pin=" if a == "--pin" and not after.isdigit() else a for a, after in pairs]
