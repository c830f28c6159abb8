"""The tables and the goals that `many_runs.py` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from _common import Spread, show_goal, show_table
from _many_bench import Results
from _many_child import Result


def show(
    what: str, headers: Sequence[str], results: Results, cells: Callable[[Result], list[str]]
) -> None:
    """Print one table: a row of cells for each result, or why there is none."""
    rows = list[list[str]]()
    for (title, size), result in results.items():
        line = [""] * len(headers) if "trouble" in result else cells(result)
        note = result.get("trouble", result.get("note", ""))
        if title.startswith("ckptstream") and result["said"] not in note:
            note += f" (it says: {result['said']})"
        rows.append([title, f"{size:,}", *line, note])
    show_table(what, ["follows with", "runs", *headers, ""], rows)


class Goal(NamedTuple):
    """At most *limit*, in *unit*, of one of the results' values."""

    words: str
    name: str
    limit: float
    unit: float
    digits: int = 1

    def show(self, results: Results, title: str, size: int = 1_000) -> None:
        """Print it."""
        found, shown, reached = results.get((title, size), {}).get(self.name), "", None
        if isinstance(found, Spread):
            shown = found.show(self.unit, self.digits)
            reached = found.median <= self.limit * self.unit
        elif found is not None:
            shown = f"{found / self.unit:.{self.digits}f}"
            reached = found <= self.limit * self.unit
        show_goal(f"{title}, {size:,} runs: {self.words}", shown, reached)
