"""References to cases, which Ray Data streams to the workers of a training run.

One pipeline serves the whole run: its rows (12 bytes a reference) are made once and lie in the object store,
so that no task has to start, no CPU is held and nothing can spill during the run. The volumes stay in
files, the store's or those of the node's cache (`store_handle.py`), which a node's workers map into memory.
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

_MAX_REFERENCES = 100_000_000  # of a run: more than a gigabyte of them is a slip
_BLOCK_ROWS = 1 << 16  # references that are sent at once


def reference_dataset(store: Store, training: "TrainingConfig") -> "Dataset":
    """The run's references in the order of training, a row each: epoch, step, position in the batch, case.

    Raises:
        UserError: there are more epochs than can be listed.
    """
    import pyarrow as pa

    cases = store.split("training", fold=training.fold)
    count = run_start(store, training, training.epochs) * training.batch_size
    if count > _MAX_REFERENCES:
        most = _MAX_REFERENCES // (len(cases) * (training.steps_per_batch or 1))
        raise UserError(
            "training.epochs",
            expected=f"at most {most} for {len(cases)} cases",
            found=str(training.epochs),
            remedy="lower it",
        )
    index = {case: number for number, case in enumerate(cases)}
    rows = np.fromiter(
        (
            (reference.epoch, reference.step, position, index[reference.case])
            for batch in run_order(store, training)
            for position, reference in enumerate(batch)
        ),
        dtype=np.dtype((np.int32, 4)),
        count=count,
    )
    table = pa.table(
        {
            "epoch": rows[:, 0],
            "step": rows[:, 1],
            "position": rows[:, 2],
            "case": pa.DictionaryArray.from_arrays(pa.array(rows[:, 3]), pa.array(cases, pa.string())),
        }
    )
    return _in_memory([table.slice(start, _BLOCK_ROWS) for start in range(0, count, _BLOCK_ROWS)])


class DeterministicSharding(DataConfig):
    """Gives each rank its positions of every batch, whatever the timing.

    Ray's own sharding distributes blocks as they come, so that a run's order would depend on timing.
    """

    def configure(
        self,
        datasets: dict[str, "Dataset"],
        world_size: int,
        worker_handles: list[Any] | None,
        worker_node_ids: list[str] | None,
        **kwargs: Any,
    ) -> list[dict[str, "DataIterator"]]:
        """Make an iterator for each rank and data set, as Ray Train calls it."""
        shards: list[dict[str, DataIterator]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            for rank, iterator in enumerate(_split(dataset, world_size)):
                shards[rank][name] = iterator
        return shards


def shard_references(shard: "DataIterator") -> Iterator[list[SampleKey]]:
    """Iterate over this rank's references, a list a step."""
    rows = (
        row
        for table in _tables(shard)
        for row in zip(*(table[name].to_pylist() for name in ("step", "epoch", "case")), strict=True)
    )
    for step, group in groupby(rows, key=itemgetter(0)):
        yield [SampleKey(epoch, step, case) for _, epoch, case in group]


def _split(dataset: "Dataset", world_size: int) -> list["DataIterator"]:
    """The rows whose position in the batch is a rank's, for each rank; blocks stay in order."""
    import pyarrow as pa

    blocks = list(_tables(dataset.iterator()))
    ranks = [np.asarray(block["position"]) % world_size for block in blocks]
    return [
        _in_memory(
            [block.filter(pa.array(own == rank)) for block, own in zip(blocks, ranks, strict=True)]
        ).iterator()
        for rank in range(world_size)
    ]


def _tables(shard: "DataIterator") -> Iterator["pa.Table"]:
    """Iterate over whole blocks, in order."""
    whole_blocks: Any = None
    return iter(shard.iter_batches(batch_size=whole_blocks, batch_format="pyarrow", prefetch_batches=1))


def _in_memory(blocks: list["pa.Table"]) -> "Dataset":
    """Make a data set over tables in the object store.

    Ray's `from_arrow` starts a task for each table, which would wait forever where training holds every CPU.
    """
    from ray.data import from_blocks

    dataset = from_blocks(blocks)
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    return dataset
