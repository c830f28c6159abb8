"""`follow`: the full stream."""

from __future__ import annotations

from ..layouts import Layout, resolve
from . import arguments as check
from . import places
from ._engine import Engine
from ._stream import CheckpointStream
from .arguments import Done, Options, TimeoutFn, WatcherChoice
from .places import RunPath, StrPath


def follow(
    *checkpoint_dirs: RunPath,
    layout: str | Layout = "auto",
    latest_only: bool = False,
    skip_existing: bool = False,
    until_step: int | None = None,
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: TimeoutFn | None = None,
    cursor: StrPath | None = None,
    done: Done = "next",
    retries: int = 0,
    pin: bool | int = False,
    poll_interval: float | None = None,
    watcher: WatcherChoice = "auto",
) -> CheckpointStream:
    """
    Follow training runs: every finished checkpoint, in order, as soon as it is finished.

    Nothing is touched before the first `async for` or `anext`; a directory that is not there, or
    not for the moment, is waited for.

    A path with a `*` is a pattern: every directory that matches it is a run, now and later. One
    that is deleted leaves; what was delivered of it is not delivered again if it comes back.
    `ckpt.run` says which run a checkpoint is of. Order holds within a run; runs take turns.

        async for ckpt in ckptstream.follow("runs/7b", timeout=3600):
            await anyio.to_thread.run_sync(evaluate, ckpt.path)

    Delivered is every checkpoint that a look finds finished, and each new generation of it. One
    that was seen but deleted before it could be delivered is reported as missed, in `status()`
    and in the log. One that was born and deleted between two looks where no event arrives cannot
    be known.

    Args:
        checkpoint_dirs: The directories that the checkpoints lie in, one run each; or patterns,
            such as `"sweeps/*/checkpoints"`. A `*` stands for any characters of one name, but not
            for a dot at its beginning; so a directory whose own name holds a `*` cannot be
            followed. With `ckptstream[object-store]` also URLs in object stores, `s3://bucket/run`
            (`gs://`, `az://`, `abfss://`), or a store of obstore's own, such as
            `obstore.store.S3Store("bucket", prefix="run", ...)`. Credentials and the endpoint come
            from that store, from the environment, or from options in the URL
            (`?region=eu-west-1`), which are never shown.
        layout: How the framework writes them: `"auto"` decides for each entry by what it holds; a
            known name (`"hf"`, `"orbax"`, `"tensorflow"`); a string with `{step}`, such as
            `"step_{step}/DONE"` (finished when `DONE` is there) or `"ckpt_{step}.pt"` (finished
            when it has not changed for 1 second, 5 on network filesystems, 30 in object stores,
            whose objects are uploaded one after the other, and when the end of a
            zip, safetensors or HDF5 file is there: a writer that pauses longer is not told from
            one that has finished, so rather write a marker); or an object that is a
            `ckptstream.layouts.Layout`.
        latest_only: Deliver only the newest of each run that is finished when the caller asks.
            What is passed over is counted as skipped and never comes back.
        skip_existing: Do not deliver what the first look finds. A run that comes later was not
            there: all of it is new.
        until_step: End when of every run a checkpoint of this step, or of a later one, was
            delivered, or was missed after it was seen finished. A pattern can always bring more
            runs: with one, the stream ends only by timeout or when it is closed. None: no such
            end.
        min_interval_secs: Seconds between two deliveries of the same run, at least.
        timeout: Seconds to wait for one new checkpoint of any run, at most, from the moment the
            caller asks.
            What one more complete look finds then is still delivered, before the stream ends;
            0 is that look alone. None waits for ever.
        timeout_fn: Asked when the timeout has expired, without arguments; a plain function, which
            must not block, or one that returns an awaitable. True ends the stream after that
            look, False waits anew. What it raises reaches the caller; the stream stays usable.
        cursor: A file that remembers, across restarts, what is done of each run; it is made if it
            is not there. Needs `async with`. What a restart finds undone is delivered again, what
            is done is not. One file serves any number of runs, named by their absolute paths; a
            run and a file belong to one open stream, so a second evaluation takes a second file.
            With `skip_existing`, what the first look ever found is passed over, once.
        done: When a checkpoint is done. `"next"`: when the caller asks for the next one, or leaves
            the `async with` block without an exception. `"explicit"`: when the caller says so with
            `await stream.done(ckpt)`, for those who hand checkpoints to other tasks.
        retries: How many times a checkpoint that has `failed` is delivered again.
        pin: Pin each checkpoint as it arrives, as `ckptstream.pin` does, until it is done: what
            the trainer deletes meanwhile is delivered all the same. Its `path` is the pin's then.
            Needs `async with`, in which a task does that while your code runs; as with any task
            group, the task that enters the block is the one that leaves it. Pinned are what you
            have, the next one of each run, and so many others that wait, True for 8; with
            `latest_only` none of those. Each may take up a checkpoint's disk space.
        poll_interval: Seconds between two looks where events cannot be trusted (network and FUSE
            filesystems, systems without inotify), more than 0. None: 1 second. In object stores,
            where each look is paid for, so many at most, None for 60: a run is looked at up to
            six times as often, but no more than every 10 seconds, while its next checkpoint is
            due, by the times of those before, or arrives.
        watcher: `"auto"` takes events where they can be trusted; `"poll"` and `"inotify"` force
            it. Tests give a `ckptstream.testing.ManualWatcher`.

    Raises:
        ModuleNotFoundError: A run is in an object store, and `ckptstream[object-store]` is not
            installed.
        TypeError: An argument is of the wrong type.
        ValueError: An argument makes no sense; the message names it and its value.
    """
    if timeout_fn is not None and timeout is None:
        raise ValueError(
            f"timeout_fn={timeout_fn!r} is never asked without a timeout: "
            "give timeout=, in seconds, or leave timeout_fn out"
        )
    interval = check.optional_seconds("poll_interval", poll_interval)
    if interval == 0:
        raise ValueError(f"poll_interval={poll_interval!r} would never rest: give a positive time")
    locations = places.locations(checkpoint_dirs)
    file = check.cursor_file("cursor", cursor)
    places.check_names(file, locations)
    options = Options(
        layout=resolve(layout),
        latest_only=check.flag("latest_only", latest_only),
        skip_existing=check.flag("skip_existing", skip_existing),
        until_step=check.step("until_step", until_step),
        min_interval_secs=check.seconds("min_interval_secs", min_interval_secs),
        timeout=check.optional_seconds("timeout", timeout),
        timeout_fn=check.timeout_function("timeout_fn", timeout_fn),
        poll_interval=interval,
        watcher=check.watcher_choice("watcher", watcher),
        cursor=file,
        done=check.done_choice("done", done, cursor),
        retries=check.count("retries", retries, least=0),
        pin=check.pins("pin", pin, locations),
    )
    return CheckpointStream(Engine(locations, options))
