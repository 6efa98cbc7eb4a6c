"""A comparison of networks in the terminal."""

from ossnet.benchmarks.config import shape_name
from ossnet.benchmarks.networks.results import ModelRow, ModelsResult
from ossnet.memory.peak import GIB
from ossnet.output.tables import print_table

_COLUMNS = (
    "network", "shape", "GiB", "predicted", "forward s", "backward s", "step s", "x floor",
    "train pred./s", "infer pred./s",
)  # fmt: skip


def show(result: ModelsResult) -> None:
    """Print a row a network and shape; predictions are of points, or of voxels for a U-Net."""
    print_table(_COLUMNS, map(cells, result.rows), left=2)


def summary(row: ModelRow) -> str:
    """A row in a line, for progress."""
    done = row.status if row.step_s is None else f"{row.step_s:.3g} s a step"
    return f"{row.network} {shape_name(row.shape)}: {done}"


def cells(row: ModelRow) -> tuple[str, ...]:
    """A row as text, one for each column."""
    peak = row.status if row.peak_bytes is None else f"{row.peak_bytes / GIB:.3f}"
    seconds = (row.forward_s, row.backward_s, row.step_s, row.roofline_ratio)
    rates = (row.training_predictions_per_s, row.inference_predictions_per_s)
    return (
        row.network,
        shape_name(row.shape),
        peak,
        f"{row.predicted_bytes / GIB:.3f}",
        *("" if number is None else f"{number:.3g}" for number in seconds),
        *("" if number is None else f"{number:,.0f}" for number in rates),
    )
