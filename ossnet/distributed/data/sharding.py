"""References to cases, streamed by Ray Data to the workers of a training run.

One pipeline serves the whole run: its rows (12 bytes a reference) are made once and lie in the object store,
so that no task has to start, no CPU is held and nothing can spill while the run goes on. The volumes stay in
the store's files, which a node's workers map into memory.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.train import DataConfig

from ossnet.data import Store
from ossnet.errors import UserError
from ossnet.sampling.sampler import SampleKey
from ossnet.training_run import run_order, run_start

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import DataIterator, Dataset

    from ossnet.training import TrainingConfig

_MOST = 100_000_000  # references of a run: more than a gigabyte of them is a slip
_BLOCK = 1 << 16  # references that travel at once


def reference_dataset(store: Store, training: "TrainingConfig") -> "Dataset":
    """The run's references in the order of training, a row each: epoch, step, place in the batch, case.

    Raises:
        UserError: more epochs than can be listed.
    """
    import pyarrow as pa

    cases = store.split("training", fold=training.fold)
    count = run_start(store, training, training.epochs) * training.batch_size
    if count > _MOST:
        most = _MOST // (len(cases) * training.steps_per_batch)
        msg = f"training.epochs {training.epochs}: expected at most {most} for {len(cases)} cases; lower it"
        raise UserError(msg)
    index = {case: position for position, case in enumerate(cases)}
    rows = np.fromiter(
        (
            (reference.epoch, reference.step, place, index[reference.case])
            for batch in run_order(store, training)
            for place, reference in enumerate(batch)
        ),
        dtype=np.dtype((np.int32, 4)),
        count=count,
    )
    table = pa.table(
        {
            "epoch": rows[:, 0],
            "step": rows[:, 1],
            "place": rows[:, 2],
            "case": pa.DictionaryArray.from_arrays(pa.array(rows[:, 3]), pa.array(cases, pa.string())),
        }
    )
    return _in_memory([table.slice(start, _BLOCK) for start in range(0, count, _BLOCK)])


class DeterministicSharding(DataConfig):
    """Gives each rank its places of every batch, the same ones at any time.

    Ray's own sharding hands out blocks as they come, so that a run's order would depend on timing.
    """

    def configure(
        self,
        datasets: dict[str, "Dataset"],
        world_size: int,
        worker_handles: list[Any] | None,
        worker_node_ids: list[str] | None,
        **kwargs: Any,
    ) -> list[dict[str, "DataIterator"]]:
        """One iterator for each rank and data set."""
        shards: list[dict[str, DataIterator]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            for rank, iterator in enumerate(_split(dataset, world_size)):
                shards[rank][name] = iterator
        return shards


def shard_references(shard: "DataIterator") -> Iterator[list[SampleKey]]:
    """This rank's references, a list a step."""
    rows = (
        row
        for table in _tables(shard)
        for row in zip(*(table[name].to_pylist() for name in ("step", "epoch", "case")), strict=True)
    )
    for step, group in groupby(rows, key=itemgetter(0)):
        yield [SampleKey(epoch, step, case) for _, epoch, case in group]


def _split(dataset: "Dataset", world_size: int) -> list["DataIterator"]:
    """The rows whose place in the batch is a rank's, for each rank; blocks stay in order."""
    import pyarrow as pa

    blocks = list(_tables(dataset.iterator()))
    ranks = [np.asarray(block["place"]) % world_size for block in blocks]
    return [
        _in_memory(
            [block.filter(pa.array(own == rank)) for block, own in zip(blocks, ranks, strict=True)]
        ).iterator()
        for rank in range(world_size)
    ]


def _tables(shard: "DataIterator") -> Iterator["pa.Table"]:
    """Whole blocks, in order."""
    whole: Any = None
    return iter(shard.iter_batches(batch_size=whole, batch_format="pyarrow", prefetch_batches=1))


def _in_memory(blocks: list["pa.Table"]) -> "Dataset":
    """A data set over tables in the object store.

    Ray's `from_arrow` starts a task for each table, which would wait for ever where training holds every CPU.
    """
    from ray.data import from_blocks

    dataset = from_blocks(blocks)
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    return dataset
