"""Commands as they are written on the command line."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from typing import TypeAlias

from ._errors import Refused

Arguments: TypeAlias = "str | list[str]"  # a line for the shell, or a program and its arguments

PLACEHOLDERS = ("path", "step", "run", "layout", "generation", "identifier")
# A single word in braces; `${HOME}` is the shell's, and in JSON there are quotes.
_WORD = re.compile(r"\{\{(?P<quoted>[a-z_][a-z_0-9]*)\}\}|(?<!\$)\{(?P<name>[a-z_][a-z_0-9]*)\}")


def split(option: str, text: str, shell: bool) -> Arguments:
    """
    A command as it is started.

    Raises:
        Refused: There is none, or its program is not there.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        if shell:
            return text  # Its syntax is the shell's.
        raise Refused(f"{option} {text!r}: {error}: close each quotation mark") from None
    if not words:
        raise Refused(f"{option} is empty: give a command")
    if shell:
        return text
    # A placeholder may be the program, or its directory.
    if _WORD.search(words[0]) is None and shutil.which(words[0]) is None:
        hint = ", or --shell if the shell knows it" if "/" not in words[0] else ""
        raise Refused(f"{option} {text!r}: no program {words[0]!r}: check its name{hint}")
    return words


class Template:
    """
    A command with placeholders: `{path}`, for example. All other braces are text.

    Args:
        option: Where it was written.
        text: The command.
        shell: Whether the shell is to understand it: what stands for a placeholder is quoted then.

    Raises:
        Refused: It makes no sense.
    """

    def __init__(self, option: str, text: str, shell: bool) -> None:
        self._arguments = split(option, text, shell)
        for word in [text] if isinstance(self._arguments, str) else self._arguments:
            for found in _WORD.finditer(word):
                if found["name"] is not None and found["name"] not in PLACEHOLDERS:
                    raise Refused(_unknown(option, found["name"]))

    def fill(self, values: Mapping[str, str | int | None]) -> Arguments:
        """The command for one checkpoint; what is None is empty."""
        texts = {name: "" if value is None else str(value) for name, value in values.items()}
        if isinstance(self._arguments, str):
            return _fill(self._arguments, {k: shlex.quote(v) for k, v in texts.items()})
        return [_fill(word, texts) for word in self._arguments]


def _fill(word: str, texts: Mapping[str, str]) -> str:
    def replace(found: re.Match[str]) -> str:
        if found["name"] is not None:
            return texts[found["name"]]
        quoted = found["quoted"]
        return f"{{{texts[quoted]}}}" if quoted in texts else f"{{{quoted}}}"

    return _WORD.sub(replace, word)


def _unknown(option: str, name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, PLACEHOLDERS, n=1)
    hint = f" (did you mean {{{close[0]}}}?)" if close else ""
    known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
    return (
        f"{option}: {{{name}}} is not known{hint}: use one of {known}, "
        f"or {{{{{name}}}}} for this very text"
    )


def environment(slot: int) -> dict[str, str]:
    """What a command finds in its environment."""
    return {**os.environ, "CKPTSTREAM_SLOT": str(slot)}
