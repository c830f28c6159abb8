"""
The README's examples, as a reader copies them.
"""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(
    r"<!-- test: (?P<name>[\w-]+) -->\n```python\n(?P<code>.*?)```\n"
    r"(?:\n```text\n(?P<output>.*?)```\n)?",
    re.DOTALL,
)
CONSOLE = re.compile(
    r"<!-- test: (?P<name>[\w-]+) -->\n```console\n"
    r"\$ (?P<command>(?:[^\n]*\\\n)*[^\n]*\n)(?P<output>.*?)```\n",
    re.DOTALL,
)
SCRIPT = re.compile(r"<!-- test: (?P<name>[\w-]+) -->\n```bash\n(?P<script>.*?)```\n", re.DOTALL)


def script(name: str) -> str:
    """
    The README's shell script of that name.
    """
    [found] = [match for match in SCRIPT.finditer(README.read_text()) if match["name"] == name]
    return found["script"]


def blocks(name: str) -> list[tuple[str, str]]:
    """
    The code and the shown output of the README's examples of that name.
    """
    found = [match for match in BLOCK.finditer(README.read_text()) if match["name"] == name]
    assert found, f"the README has no example {name!r}"
    return [(match["code"], match["output"] or "") for match in found]


def console(name: str) -> tuple[str, str]:
    """
    What is typed in the README's example of that name, and what is shown then.
    """
    [found] = [match for match in CONSOLE.finditer(README.read_text()) if match["name"] == name]
    return found["command"], found["output"]
