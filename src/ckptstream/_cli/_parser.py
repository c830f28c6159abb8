"""What the command understands."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version
from typing import NoReturn, Protocol

DESCRIPTION = "An async stream of new machine-learning checkpoints."
EXIT_CODES = """\
exit codes:
  0    it has ended, and all is done
  1    something has failed, was missed or is set aside
  2    a wrong call: nothing was started
  130  Ctrl-C (SIGINT); 143: SIGTERM; 129: SIGHUP
  141  nobody reads standard output any more
"""
EXAMPLES = """\
examples:
  ckptstream follow runs/7b --timeout 3600
  ckptstream follow 'sweeps/*/checkpoints' --exec 'python eval.py {path}' --cursor evals.db
  ckptstream ls runs/7b

'ckptstream COMMAND --help' says more of each command.
"""


class Commands(Protocol):
    """Where each command is added."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,  # noqa: A002  # argparse's name
        description: str,
        epilog: str,
    ) -> argparse.ArgumentParser: ...


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; examples in its texts stay as they are written."""

    def __init__(
        self,
        prog: str | None = None,
        *,
        description: str,
        epilog: str,
        parents: tuple[argparse.ArgumentParser, ...] = (),
    ) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            parents=parents,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"ckptstream: {message}: see '{self.prog} --help'\n")


def parser() -> argparse.ArgumentParser:
    """The whole one."""
    from . import _demo, _follow, _ls

    whole = Parser("ckptstream", description=DESCRIPTION, epilog=EXAMPLES)
    whole.add_argument("--version", action="version", version=f"%(prog)s {version('ckptstream')}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for add in (_follow.add, _ls.add, _demo.add):
        _begin(commands, add)
    return whole


def _begin(commands: Commands, add: Callable[[Commands], argparse.ArgumentParser]) -> None:
    text = "say more, and show where an error comes from"
    add(commands).add_argument("--debug", action="store_true", help=text)
