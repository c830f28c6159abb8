"""
More happens than there is time for: the event loop goes round all the same.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from observing import SECONDS
from sweeping import LAYOUT

from ckptstream import follow
from ckptstream.testing import ManualWatcher

pytestmark = pytest.mark.anyio


class Restless(ManualWatcher):
    """
    Something has happened in every run whenever it is asked.
    """

    def read(self, *, lately: bool = False) -> None:
        self.touch()


@pytest.mark.parametrize("count", [1, 300])
async def test_a_stream_that_never_rests_leaves_the_event_loop_to_others(
    tmp_path: Path, count: int
) -> None:
    """
    Another task gets its turns, and so does a cancellation.
    """
    runs = [tmp_path / str(number) for number in range(count)]
    for run in runs:
        run.mkdir()
    watcher, turns = Restless(), 0
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(anext, follow(*runs, layout=LAYOUT, watcher=watcher))
            await anyio.lowlevel.checkpoint()
            for _ in range(100):
                turns += 1
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    assert 100 == turns
    assert watcher.looks > count
