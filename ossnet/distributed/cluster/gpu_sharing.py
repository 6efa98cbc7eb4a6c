"""Limits of a trial's process while others share its GPU."""

from ossnet.metric_names import GPUS
from ossnet.planning.margin import MARGIN


class TrialResources:
    """The CPUs and GPUs that Ray Tune gave to this process's trial."""

    def __init__(self) -> None:
        from ray import tune

        resources = tune.get_context().get_trial_resources().required_resources
        self.cpus = int(resources.get("CPU", 1))
        self.gpus = float(resources.get("GPU", 0))

    @property
    def shares(self) -> bool:
        """Whether other trials may use the same GPU."""
        return 0 < self.gpus < 1

    def tag(self) -> dict[str, str]:
        """The tag of the trial's run that says how much of a GPU it held; empty without a GPU."""
        return {GPUS: f"{self.gpus:g}"} if self.gpus else {}

    def apply_limits(self) -> None:
        """Limit this process to its threads and its part of the GPU's memory: who needs more fails alone."""
        import torch

        torch.set_num_threads(self.cpus)
        if self.gpus and torch.cuda.is_available():
            whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
            part = self.gpus - MARGIN.fixed / whole if self.shares else 1.0  # the context is not counted
            torch.cuda.set_per_process_memory_fraction(max(part, 0.0))
