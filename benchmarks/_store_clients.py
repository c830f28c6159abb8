"""Ways to follow runs in a bucket, for `object_store.py`; a program, told what by lines of JSON."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from _common import is_installed

import ckptstream

LAYOUT, MARKER = "step_{step}/DONE", "DONE"
LOOKING = 600.0  # seconds until a first look is given up


class Heard:
    """
    What a contender has heard of, for the parent.

    Attributes:
        looks: How many times it has looked at all runs, where it can tell.
        wake: Makes it look now, if it can do that.
        counted: How many requests it counted itself, if it does that.
    """

    def __init__(self, bucket: str) -> None:
        self.looks = 0
        self.wake: Callable[[], object] | None = None
        self.counted: Callable[[], int | None] = lambda: None
        self._bucket = bucket
        self._times = deque[tuple[str, float]]()
        self._began = time.monotonic()

    def deliver(self, path: str, now: float) -> None:
        """A checkpoint; *now* is taken at the first statement of the loop's body."""
        self._times.append((path.partition(f"{self._bucket}/")[2], now))

    def take(self) -> list[tuple[str, float]]:
        """What came since it was asked last."""
        return [self._times.popleft() for _ in range(len(self._times))]

    def first(self) -> None:
        """The first look at all runs has ended."""
        say(seconds=time.monotonic() - self._began, cpu=time.process_time())


def say(**what: object) -> None:
    """One line for the parent."""
    print(json.dumps(what), flush=True)


Spec = Mapping[str, Any]  # "title", "endpoint", "bucket", "size" and "interval"


def run_of(number: int) -> str:
    """A run's prefix, in its bucket."""
    return f"runs/{number:05}"


def _runs(spec: Spec) -> list[str]:
    return [run_of(number) for number in range(spec["size"])]


class Contender(NamedTuple):
    """
    One way to follow runs.

    Attributes:
        start: Follows them, and never returns.
        needs: The module that must be installed for it.
        interval: Seconds between two looks, if not those that `--interval` says.
    """

    start: Callable[[Spec, Heard], None]
    needs: str
    interval: float | None = None

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        return is_installed(self.needs)


# ckptstream.


def _urls(spec: Spec) -> list[str]:
    return [f"s3://{spec['bucket']}/{run}" for run in _runs(spec)]


def _pattern(spec: Spec) -> list[str]:
    return [f"s3://{spec['bucket']}/runs/*"]


async def _all_looked_at(stream: ckptstream.CheckpointStream, heard: Heard, runs: int) -> None:
    until = time.monotonic() + LOOKING
    while time.monotonic() < until:
        began = time.monotonic()
        looks = [run.last_look for run in stream.status().runs]
        if len(looks) == runs and None not in looks:
            return heard.first()
        # To ask takes time itself.
        await asyncio.sleep(max(0.1, 20 * (time.monotonic() - began)))
    say(trouble=f"has not looked at every run within {LOOKING:.0f} s")
    return None


async def _follow(spec: Spec, heard: Heard, urls: list[str]) -> None:
    loop = asyncio.get_running_loop()
    stream = ckptstream.follow(*urls, layout=LAYOUT, skip_existing=True)

    async def count() -> int | None:
        return stream.status().requests_last_hour

    heard.wake = partial(loop.call_soon_threadsafe, stream.wake)
    heard.counted = lambda: asyncio.run_coroutine_threadsafe(count(), loop).result()
    looking = asyncio.create_task(_all_looked_at(stream, heard, spec["size"]))
    async for ckpt in stream:
        now = time.monotonic()
        heard.deliver(ckpt.path, now)
    looking.cancel()


def _ckptstream(urls: Callable[[Spec], list[str]], spec: Spec, heard: Heard) -> None:
    asyncio.run(_follow(spec, heard, urls(spec)))


# What a user would take instead. Each yields the paths of finished checkpoints that are not known;
# without *check*, of all there are.

Look = Callable[[set[str], bool], Iterator[str]]


def _s3fs(spec: Spec) -> Look:
    runs = _runs(spec)
    fs = importlib.import_module("s3fs").S3FileSystem(use_listings_cache=False)

    def look(known: set[str], check: bool) -> Iterator[str]:
        for run in runs:
            for path in fs.ls(f"{spec['bucket']}/{run}", detail=False):
                if path not in known and (not check or fs.exists(f"{path}/{MARKER}")):
                    yield path

    return look


def _boto3(spec: Spec) -> Look:
    s3 = importlib.import_module("boto3").client("s3")
    errors = importlib.import_module("botocore.exceptions")
    bucket, runs = spec["bucket"], _runs(spec)
    pages = s3.get_paginator("list_objects_v2")

    def is_finished(path: str) -> bool:
        try:
            s3.head_object(Bucket=bucket, Key=f"{path}{MARKER}")
        except errors.ClientError:
            return False
        return True

    def look(known: set[str], check: bool) -> Iterator[str]:
        for run in runs:
            for page in pages.paginate(Bucket=bucket, Prefix=f"{run}/", Delimiter="/"):
                for each in page.get("CommonPrefixes", ()):
                    path = f"{bucket}/{each['Prefix'].rstrip('/')}"
                    if path not in known and (not check or is_finished(each["Prefix"])):
                        yield path

    return look


def _boto3_tree(spec: Spec) -> Look:
    s3 = importlib.import_module("boto3").client("s3")
    pages = s3.get_paginator("list_objects_v2")

    def look(known: set[str], check: bool) -> Iterator[str]:
        for page in pages.paginate(Bucket=spec["bucket"], Prefix="runs/"):
            for each in page.get("Contents", ()):
                directory, _, name = each["Key"].rpartition("/")
                path = f"{spec['bucket']}/{directory}"
                if name == MARKER and path not in known:
                    yield path

    return look


def _poll(peer: Callable[[Spec], Look], spec: Spec, heard: Heard) -> None:
    look, known = peer(spec), set[str]()
    while True:
        began = time.monotonic()
        for path in look(known, heard.looks > 0):
            now = time.monotonic()
            known.add(path)
            if heard.looks:
                heard.deliver(path, now)
        heard.looks += 1
        if heard.looks == 1:
            heard.first()
        time.sleep(max(0.0, began + spec["interval"] - time.monotonic()))


OURS, S3FS = "ckptstream", "s3fs, a list per run"
P50 = 15.0  # seconds: the goal
S3FS_SELDOM = f"{S3FS}, every {2 * P50:g} s"  # as seldom as that goal allows

CONTENDERS: dict[str, Contender] = {
    OURS: Contender(partial(_ckptstream, _urls), "obstore"),
    f"{OURS}, a pattern": Contender(partial(_ckptstream, _pattern), "obstore"),
    S3FS: Contender(partial(_poll, _s3fs), "s3fs"),
    S3FS_SELDOM: Contender(partial(_poll, _s3fs), "s3fs", 2 * P50),
    "boto3, a list per run": Contender(partial(_poll, _boto3), "boto3"),
    "boto3, a list of the whole tree": Contender(partial(_poll, _boto3_tree), "boto3"),
}


def _answer(heard: Heard) -> None:
    for line in sys.stdin:
        order = json.loads(line)
        if "wake" in order and heard.wake is not None:
            heard.wake()
        counted = heard.counted() if "count" in order else None
        looks, wakes = heard.looks, heard.wake is not None
        at, cpu = time.monotonic(), time.process_time()
        say(at=at, cpu=cpu, looks=looks, wakes=wakes, times=heard.take(), counted=counted)
    os._exit(0)


def main() -> None:
    """Follow the runs, in a process of its own."""
    spec = json.loads(sys.argv[1])
    os.environ |= {
        "AWS_ENDPOINT_URL": spec["endpoint"],
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "testtest",
    }
    heard = Heard(spec["bucket"])
    threading.Thread(target=_answer, args=(heard,), daemon=True).start()
    try:
        CONTENDERS[spec["title"]].start(spec, heard)
    except Exception as error:
        say(trouble=f"{type(error).__name__}: {error}")
    os._exit(0)  # Threads that never end would be waited for.


if __name__ == "__main__":
    main()
