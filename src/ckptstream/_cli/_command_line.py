"""How a command of the command line is written down: what all of them have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from .._model import is_url


class Command(click.Command):
    """A command whose examples stay as they are written."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them at the end of the help."""
        if self.epilog is not None:
            formatter.write(f"\n{self.epilog}")


class Group(click.Group):
    """
    The command that has the others. Its examples stay as they are written, too.

    Args:
        commands: For each name the module, which is imported only when it is asked for, and what
            the help says of it.
    """

    format_epilog = Command.format_epilog

    def __init__(self, name: str, commands: Mapping[str, tuple[str, str]], epilog: str) -> None:
        super().__init__(name, epilog=epilog, no_args_is_help=False)
        self._commands = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(self._commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them; None: there is none of that name."""
        if cmd_name not in self._commands:
            return None
        name, _ = self._commands[cmd_name]
        found: click.Command = import_module(f"{__package__}.{name}").COMMAND
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each one does."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._commands.items()])


def command(
    name: str,
    run: Callable[..., int],
    *,
    long: str,
    examples: str,
    parameters: Sequence[click.Parameter],
) -> Command:
    """A command; *run* gets its parameters by name, and returns the exit code."""
    debug = flag("--debug", "Say more, and show where an error comes from.")
    return Command(
        name,
        params=[*parameters, debug],
        callback=run,
        help=long,
        epilog=examples,
    )


def flag(name: str, text: str) -> click.Option:
    """An option that takes nothing."""
    return click.Option([name], is_flag=True, help=text)


def value(
    name: str,
    text: str,
    metavar: str,
    kind: click.ParamType[Any] | type[str | int | float] = str,
    default: str | float | bool | None = None,
) -> click.Option:
    """An option that takes something."""
    return click.Option([name], type=kind, default=default, metavar=metavar, help=text)


class FileName(click.ParamType[str]):
    """A path that the shell completes; whether it is there is not asked."""

    name = "path"

    def __init__(self, *, directory: bool) -> None:
        self._directory = directory

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What the shell knows; of a URL it knows nothing."""
        if is_url(incomplete):
            return []
        return [CompletionItem(incomplete, type="dir" if self._directory else "file")]


class LayoutName(click.ParamType[str]):
    """A known name, which the shell completes, or a name with `{step}`."""

    name = "layout"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so."""
        return list(map(CompletionItem, _beginning(incomplete)))


def _beginning(incomplete: str) -> Iterable[str]:
    from .._errors import UnknownLayout
    from ..layouts import resolve

    try:
        resolve("")
    except UnknownLayout as error:
        return [name for name in error.known if name.startswith(incomplete)]
    return []


DIRECTORIES = click.Argument(
    ["directories"], nargs=-1, required=True, type=FileName(directory=True), metavar="DIR..."
)
LAYOUT = value(
    "--layout",
    "How they are written: hf, orbax, tensorflow ..., 'step_{step}/DONE', 'ckpt_{step}.pt' (auto).",
    "LAYOUT",
    LayoutName(),
    "auto",
)
