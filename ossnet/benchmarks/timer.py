"""Timing on the device that does the work, and the rate at which it multiplies matrices."""

import time
from collections.abc import Callable
from itertools import pairwise

import torch

_ROWS, _INNER, _COLUMNS = 4096, 1024, 2048
_FEW_ROWS, _PRODUCT_S = 64, 0.25


class DeviceTimer:
    """Records moments in a stream of work: on CUDA by events, which do not block it, else by `now`."""

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self._device = device
        self._now = now
        self._events: list[torch.cuda.Event] = []
        self._times: list[float] = []
        self._wait()

    def record(self) -> None:
        """Record the end of one interval, which is the start of the next."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)
        else:
            self._times.append(self._now())

    def elapsed(self) -> list[float]:
        """Wait for the work; return the seconds between successive records."""
        self._wait()
        if self._device.type == "cuda":
            return [before.elapsed_time(after) / 1000 for before, after in pairwise(self._events)]
        return [after - before for before, after in pairwise(self._times)]

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def best_time(
    work: Callable[[], object],
    device: torch.device,
    *,
    repeats: int,
    now: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of the fastest of some repeats, after one of warm-up."""
    work()
    timer = DeviceTimer(device, now)
    timer.record()
    for _ in range(repeats):
        work()
        timer.record()
    return min(timer.elapsed())


def matrix_rate(
    device: torch.device, precision: str, *, now: Callable[[], float] = time.perf_counter
) -> float:
    """GFLOP/s of the product of an N x 1024 and a 1024 x 2048 matrix, the best of five.

    N is 4096, or as many rows as take about a quarter of a second: a processor without instructions for
    bfloat16 is a hundred times slower in it.

    Args:
        now: on a CPU, `time.process_time` leaves out what other work takes; of several threads it is the sum.
    """
    left = torch.randn(_ROWS, _INNER, device=device)
    right = torch.randn(_INNER, _COLUMNS, device=device)
    if precision == "bf16":
        left, right = left.bfloat16(), right.bfloat16()
    few_s = best_time(lambda: left[:_FEW_ROWS] @ right, device, repeats=1, now=now)
    rows = min(_ROWS, max(_FEW_ROWS, int(_FEW_ROWS * _PRODUCT_S / max(few_s, 1e-9))))
    seconds = best_time(lambda: left[:rows] @ right, device, repeats=5, now=now)
    return 2 * rows * _INNER * _COLUMNS / seconds / 1e9
