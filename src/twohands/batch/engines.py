"""Who does the shards: this process, a few processes beside it, or Ray Data on as many machines as there are.

An engine knows nothing of hands: it is given the shards that are left and a way to make a worker. A worker is made once in each process. It may
be killed at any time: a shard is done when its file is there, and a shard that is asked for again is done again.
"""

import json
import logging
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, assert_never

import numpy as np

from twohands.errors import UserError, from_extra
from twohands.manifest import MOST_ATTEMPTS, Shard, ShardReport

Engine = Literal["local", "ray"]


Worker = Callable[[Shard], ShardReport]
MakeWorker = Callable[[], Worker]
"""Must survive pickling: it is called in the worker's own process."""


def run(
    engine: Engine, make_worker: MakeWorker, shards: list[Shard], workers: int = 1, address: str | None = None
) -> Iterator[ShardReport]:
    """Does the shards in any order; yields a report as each is done.

    `address` is that of a running Ray cluster ("auto" finds one that was started on this machine); without it Ray starts on this machine alone."""
    if workers < 1:
        raise UserError(f"{workers} workers can do nothing; give at least one")
    if not shards:
        return iter(())
    match engine:
        case "local":
            return _in_turn(make_worker, shards) if workers == 1 else _in_processes(make_worker, shards, workers)
        case "ray":
            return _on_ray(make_worker, shards, workers, address)
        case _:
            assert_never(engine)


def _in_turn(make_worker: MakeWorker, shards: list[Shard]) -> Iterator[ShardReport]:
    worker = make_worker()
    for shard in shards:
        yield worker(shard)


def _serve(connection: Connection, make_worker: MakeWorker) -> None:
    """A worker process: shards come in, reports go out, until None comes or the other end is gone."""
    try:
        worker = make_worker()
        while (shard := connection.recv()) is not None:
            connection.send(worker(shard))
    except (EOFError, ConnectionError):
        return  # the run was killed
    except Exception as error:
        connection.send(error)


def _in_processes(make_worker: MakeWorker, shards: list[Shard], workers: int) -> Iterator[ShardReport]:
    """Each process is handed a shard at a time; for one that dies a new one is begun with the same shard."""
    context = multiprocessing.get_context("spawn")  # a fork would copy PyTorch's threads half alive
    left = list(reversed(shards))
    busy: dict[Connection, tuple[BaseProcess, Shard]] = {}
    deaths: dict[int, int] = {}

    def begin(shard: Shard) -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, make_worker), daemon=True)
        process.start()
        theirs.close()
        ours.send(shard)
        busy[ours] = (process, shard)

    while left and len(busy) < workers:
        begin(left.pop())
    while busy:
        for connection in wait(list(busy)):
            assert isinstance(connection, Connection)
            process, shard = busy.pop(connection)
            try:
                answer = connection.recv()
            except (EOFError, ConnectionResetError) as error:
                process.join()
                deaths[shard.index] = deaths.get(shard.index, 0) + 1
                # An item that kills its process is given up after MOST_ATTEMPTS; beyond that it is the worker itself that cannot live.
                if deaths[shard.index] > MOST_ATTEMPTS * (len(shard.items) + 1):
                    raise UserError(f"workers die without end over shard {shard.index}; give them more memory, or use fewer") from error
                begin(shard)
                continue
            if isinstance(answer, Exception):
                raise answer
            if left:
                following = left.pop()
                connection.send(following)
                busy[connection] = (process, following)
            else:
                connection.send(None)
            yield answer


class _RayWorker:
    """A worker in one of Ray's processes."""

    def __init__(self, make_worker: MakeWorker) -> None:
        self.worker = make_worker()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        rows = [json.loads(text) for text in batch["shard"]]
        reports = [asdict(self.worker(Shard(row["index"], tuple(tuple(item) for item in row["items"])))) for row in rows]
        return {name: np.array([report[name] for report in reports]) for name in reports[0]}


def _on_ray(make_worker: MakeWorker, shards: list[Shard], workers: int, address: str | None) -> Iterator[ShardReport]:
    """Ray Data keeps `workers` processes busy, on whatever machines have room, and makes a new one for each that dies."""
    with from_extra("batch", "the engine ray (not --engine local)"):
        import ray
    own = not ray.is_initialized()
    if own:
        _start_ray(workers, address)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        rows = [{"shard": json.dumps(asdict(shard))} for shard in shards]
        # A block is what is done anew when a worker dies; Ray Data makes a new worker as often as that happens.
        reports = ray.data.from_items(rows, override_num_blocks=min(len(rows), 5000)).map_batches(
            _RayWorker,
            fn_constructor_args=(make_worker,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
            num_cpus=1,
        )
        for row in reports.iter_rows():
            yield ShardReport(**row)
    finally:
        if own:
            ray.shutdown()


def _start_ray(workers: int, address: str | None) -> None:
    """Ray gives a machine 30 s to start on; a busy one may need to be asked again."""
    import ray

    for left in (2, 1, 0):
        try:
            if address is None:
                ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
            else:
                ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
            return
        except Exception as error:  # Ray raises many kinds, plain Exception among them
            ray.shutdown()
            if not left:
                said = str(error).splitlines()[0]
                raise UserError(f"Ray did not start ({said}); try again, give --address, or use --engine local") from error
