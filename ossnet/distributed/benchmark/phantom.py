"""The data of benchmarks without `--data`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ossnet.data import Store


def phantom_store(folder: Path, **phantom: Any) -> "Store":
    """A store of phantom scans, a quarter of them for validation, of one class; made in this folder.

    Args:
        phantom: the arguments of `write_phantom`.
    """
    from ossnet.data import PrepareConfig, Store, write_phantom
    from ossnet.distributed.data.prepare import prepare

    source, output = write_phantom(folder / "phantom", **phantom), folder / "store"
    prepare(PrepareConfig(source=source, output=output, target="foreground", validation_fraction=0.25))
    return Store.open(output)
