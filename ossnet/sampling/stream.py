"""The batches of a run: cases read by threads, sent to the device, and drawn from there beside the step."""

from collections.abc import Generator, Iterable
from contextlib import closing

import torch

from ossnet.sampling.batch import Batch
from ossnet.sampling.batches import BatchMaker
from ossnet.sampling.loader import ReadCase, StagingPool, load_volumes
from ossnet.sampling.prefetch import prefetch
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume, VolumeCache


def stream_batches(
    steps: Iterable[list[SampleKey]],
    read: ReadCase,
    make: BatchMaker,
    *,
    threads: int = 1,
    device: torch.device | None = None,
    cache: VolumeCache | None = None,
) -> Generator[Batch]:
    """Iterate over the batches of the steps, each made while the one before is in use.

    Args:
        steps: this worker's keys, a list for each step.
        read: opens a case.
        make: from `batch_maker`, on the same device.
        threads: threads that read cases.
        cache: what `make` keeps on the device, which is not read again.
        device: where the network is, by default the CPU; on CUDA batches are made on a stream of their own.
    """
    cuda = device is not None and device.type == "cuda"
    volumes = load_volumes(
        steps,
        read,
        threads=threads,
        staging=StagingPool(pinned=True) if cuda else None,
        kept=(lambda _: None) if cache is None else cache.get,
    )
    made = _made(volumes, make, device if cuda else None)
    with closing(prefetch(made)) as batches:
        for batch in batches:
            if cuda:
                for tensor in batch.tensors():  # they may be freed, and filled anew, when the step has ended
                    tensor.record_stream(torch.cuda.current_stream(device))
            yield batch


def _made(
    volumes: Generator[list[Volume]], make: BatchMaker, device: torch.device | None
) -> Generator[Batch]:
    """Batches, ready when they are yielded; with a CUDA device they are made on a stream of their own."""
    with closing(volumes):
        if device is None:
            yield from map(make, volumes)
            return
        stream = torch.cuda.Stream(device)
        for step in volumes:
            with torch.cuda.device(device), torch.cuda.stream(stream):
                batch = make(step)
                stream.synchronize()
            yield batch
