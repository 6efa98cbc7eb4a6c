"""The data of jobs without `--data`: a phantom small enough for two cores."""

from pathlib import Path
from typing import Any

from ossnet.config import Config
from ossnet.data import PrepareConfig, Store, write_phantom
from ossnet.data.store.location import parse_location
from ossnet.distributed.cluster.connection import output_root
from ossnet.distributed.data.prepare import prepare

_SMALL: dict[str, Any] = {
    "training.epochs": 12,
    "training.batch_size": 3,
    "training.validate_every": 4,
    "sampling.points": 512,
    "sampling.border_fraction": 0.3,
    "sampling.border_width": 2,
    "sampling.foreground_fraction": 0.4,
    "optimizer.name": "adamw",  # the paper's optimizer needs more steps than there are here to start learning
    "optimizer.learning_rate": 5e-3,
    "optimizer.schedule": "cosine",
}


def open_store(data: Path | None) -> Store:
    """The store in a folder or under a URL; without one, a phantom's, made on the first call."""
    if data is not None:
        location = parse_location(data)
        return Store.open(location.absolute() if isinstance(location, Path) else location)
    source, output = _folder() / "demo-phantom", _folder() / "demo"
    write_phantom(source, cases=12, shape=(32, 32, 24))
    prepare(PrepareConfig(source=source, output=output, target="foreground", validation_fraction=0.25))
    return Store.open(output)


def default_config(model: str | None, data: Path | None) -> Config:
    """A preset's configuration for the data; on the phantom it trains for seconds rather than hours."""
    config = Config.preset(model or "oss-net-c", open_store(data))
    return config if data is not None else config.replace(_SMALL)


def checkpoint() -> Path:
    """The checkpoint of a short training on the phantom, which is run where there is none yet."""
    from ossnet.distributed import launch

    output = output_root() / "runs" / "demo"
    folder = output / "checkpoint"
    if not folder.is_dir():
        launch.launch_training(
            default_config(None, None),
            open_store(None),
            output=output,
            workers=1,
            tracking=launch.resolve_output(output, "train")[1],
            resume=(output / "config.json").is_file(),
        )
    return folder


def scans() -> Path:
    """The phantom's images, as files that a scanner might have written."""
    open_store(None)
    return _folder() / "demo-phantom" / "imagesTr"


def study(space: Path) -> str:
    """The experiment of a small study of a space on the phantom, which is run where there is none yet."""
    from ossnet.distributed import launch
    from ossnet.distributed.tuning.search_space import Space
    from ossnet.distributed.tuning.study import StudySpec

    output, tracking = launch.resolve_output(Path("runs") / "demo-study", space.stem)
    if not tracking.has_experiment():
        spec = StudySpec(
            name=space.stem,
            space=Space(space),
            base=default_config(None, None),
            store=open_store(None),
            output=output,
            tracking=tracking,
            trials=10,
        )
        launch.launch_study(spec)
    return space.stem


def _folder() -> Path:
    return output_root() / "data"
