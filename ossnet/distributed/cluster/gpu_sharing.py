"""GPUs that trials share: what memory they have, and what becomes of a trial that took too small a part."""

import json
import logging
import os
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from ossnet.distributed.cluster.connection import AUTOSCALED
from ossnet.memory.peak import GIB
from ossnet.metric_names import GPUS
from ossnet.planning.budget import MARGIN

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from ossnet.distributed.cluster.resources import TrialPlacement

logger = logging.getLogger(__name__)


GPU_GIB = "gpu_gib"
"""Of a kind of node that the autoscaler may add: what each of its GPUs has, where that is known."""
_TIMEOUT_S = 60


def min_gpu_memory_gib() -> float | None:
    """Memory of the smallest GPU of the cluster; None where it has none, or not all are known."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0)(_gpus_here)
    calls = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("GPU")
    ]
    try:
        found = [min(each, default=None) for each in ray.get(calls, timeout=_TIMEOUT_S)]
    except ray.exceptions.RayError as error:
        logger.info(
            f"each trial takes a whole GPU, as their memory is unknown: {str(error).splitlines()[-1]}"
        )
        return None
    kinds = json.loads(os.environ.get(AUTOSCALED, "[]"))
    found += [kind.get(GPU_GIB) for kind in kinds if kind["resources"].get("GPU")]
    known = [each for each in found if each is not None]
    return min(known, default=None) if len(known) == len(found) else None


def _gpus_here() -> list[float]:
    """Memory of each of this node's GPUs, whatever GPUs this process may use."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # pretended GPUs, or those of another maker
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return [pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIB for handle in handles]
    finally:
        pynvml.nvmlShutdown()


class TrialResources:
    """What this trial's process holds."""

    def __init__(self) -> None:
        from ray import tune

        resources = tune.get_context().get_trial_resources().required_resources
        self.cpus = int(resources.get("CPU", 1))
        self.gpus = float(resources.get("GPU", 0))

    @property
    def shares(self) -> bool:
        """Whether others may use the same GPU."""
        return 0 < self.gpus < 1

    def tag(self) -> dict[str, str]:
        """For the trial's run."""
        return {GPUS: f"{self.gpus:g}"} if self.gpus else {}

    def apply_limits(self) -> None:
        """Take no more threads and no more of the GPU's memory: who needs more fails alone."""
        import torch

        torch.set_num_threads(self.cpus)
        if self.gpus and torch.cuda.is_available():
            whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
            part = self.gpus - MARGIN.fixed / whole if self.shares else 1.0  # the context is not counted
            torch.cuda.set_per_process_memory_fraction(max(part, 0.0))


class FullGpuOnRetry(Callback):
    """A trial that was lost while it shared a GPU goes on alone: its share may have been too small."""

    def __init__(self, plan: "TrialPlacement") -> None:
        self._whole = plan.share

    def on_trial_recover(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Ask for a whole GPU from now on."""
        gpus = trial.placement_group_factory.required_resources.get("GPU", 0)
        if gpus < self._whole.gpus:
            logger.info(
                f"trial {trial.config['number']:03d} was lost on {gpus:g} GPU: it goes on with a whole one"
            )
            trial.update_resources(self._whole.as_ray())
