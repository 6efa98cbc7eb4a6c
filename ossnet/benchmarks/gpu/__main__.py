"""Check a GPU: `python -m ossnet.benchmarks.gpu`, which `make gpu` runs; needs neither Ray nor MLflow."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ossnet.benchmarks.gpu.check import check_device
from ossnet.benchmarks.gpu.figures import draw_memory, draw_times
from ossnet.benchmarks.gpu.results import GpuResult
from ossnet.benchmarks.gpu.sizes import FULL, SMALL
from ossnet.errors import UserError
from ossnet.memory.device import resolve_device
from ossnet.models import PRESETS
from ossnet.output.atomic_write import atomic_write
from ossnet.output.logging import configure_logging

NO_GPU = (
    "no CUDA device here: on one this would run pytest -m gpu, compare batches and networks with the CPU's, "
    "measure memory, training steps and predictions, fit the margin of plan, and write "
    "{output}/gpu-NAME.json with figures, in less than ten minutes"
)


def main(arguments: Sequence[str]) -> int:
    """Check the device; 0 where all is well or there is no GPU, 1 where something differs, failed or is
    missing, 2 for a user's mistake."""
    options = _parse(arguments)
    configure_logging()
    if options.device is None and not torch.cuda.is_available():
        print(NO_GPU.format(output=options.output))
        return 0
    try:
        result = _check(options, shlex.join(["python", "-m", "ossnet.benchmarks.gpu", *arguments]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if result.passed else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m ossnet.benchmarks.gpu", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--output", type=Path, default=Path("docs/benchmarks"), help="folder for JSON and PNG"
    )
    parser.add_argument("--device", help="as torch names it; cpu: go through the check at small sizes")
    parser.add_argument("--margin", type=Path, help="file to keep the fitted margin of plan in")
    return parser.parse_args(arguments)


def _check(options: argparse.Namespace, command: str) -> GpuResult:
    device = resolve_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    path = options.output / f"gpu-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    if path.exists():
        GpuResult.read(path)  # only what this wrote is written anew

    def keep(result: GpuResult) -> None:
        result.write(path)
        part = result.parts[-1]
        print(f"{part.name}: {part.status} in {part.seconds:.0f} s", flush=True)

    result = check_device(SMALL if device.type == "cpu" else FULL, str(device), command=command, keep=keep)
    if result.peaks:
        atomic_write(path.with_name(f"{path.stem}-memory.png"), draw_memory(result))
    if result.steps or result.volumes:
        atomic_write(path.with_name(f"{path.stem}-times.png"), draw_times(result))
    for label, text in result.summary().items():
        print(f"{label}: {text}")
    print(_keep_margin(result, options.margin))
    print(path)
    return result


def _keep_margin(result: GpuResult, path: Path | None) -> str:
    """Write the margin where it stands for all networks; say what was done."""
    if result.margin is None or path is None:
        return "margin of plan: left as it is"
    missing = set(PRESETS) - {row.network for row in result.peaks}
    if missing:
        return f"margin of plan: left as it is, as there is no peak of {', '.join(sorted(missing))}"
    atomic_write(path, result.margin.to_json())
    return f"margin of plan: {result.margin}, kept in {path}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
