"""The data of jobs without `--data`: a phantom small enough for two cores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ossnet.data import PrepareConfig, Store, write_phantom
from ossnet.distributed.cluster.connection import output_root
from ossnet.distributed.cluster.device import training_device
from ossnet.distributed.data.prepare import prepare
from ossnet.output.remote.url import parse_location
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.planning.configure.planner import Planner
from ossnet.planning.configure.recipe import Device, Recipe, suggested_network
from ossnet.sampling.grid import Shape

_SHORT: dict[str, Any] = {"training.epochs": 12, "training.batch_size": 3, "training.validate_every": 4}


def open_store(data: Path | None) -> Store:
    """The store in a folder or under a URL; without one, a phantom's, made on the first call."""
    if data is not None:
        location = parse_location(data)
        return Store.open(location.absolute() if isinstance(location, Path) else location)
    return _phantom_store("demo", cases=12, shape=(32, 32, 24))


def open_hard_phantom() -> Store:
    """The store of 24 hard phantoms at half of BraTS's size, six of them for validation; made on the first
    call."""
    return _phantom_store("hard", cases=24, shape=(120, 120, 78), hard=True)


def _phantom_store(name: str, *, cases: int, shape: Shape, hard: bool = False) -> Store:
    source, output = _folder() / f"{name}-phantom", _folder() / name
    write_phantom(source, cases=cases, shape=shape, hard=hard)
    prepare(PrepareConfig(source=source, output=output, target="foreground", validation_fraction=0.25))
    return Store.open(output)


def make_planner(
    store: Store, data: Path | None, network: str, given: Mapping[str, Any], recipe: Recipe = "auto"
) -> Planner:
    """The planner of networks for the store of `--data`; on the phantom they train for seconds, not hours.

    Args:
        given: what a user chose, by dotted path.
    """
    values = {**({} if data is not None else _SHORT), **given}
    return Planner(
        dataset=Fingerprint.of(store, fold=values.get("training.fold")),
        network=network,
        recipe=recipe,
        given=values,
        device=training_device(),
    )


def checkpoint() -> Path:
    """The checkpoint of a short training on the phantom, which is run where there is none yet."""
    from ossnet.distributed import launch

    output = output_root() / "runs" / "demo"
    folder = output / "checkpoint"
    if not folder.is_dir():
        launch.launch_training(
            _planner().base,
            open_store(None),
            output=output,
            workers=1,
            tracking=launch.resolve_output(output, "train", "train")[1],
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

    output, tracking = launch.resolve_output(Path("runs") / "demo-study", "tune", space.stem)
    if not tracking.has_experiment():
        spec = StudySpec(
            name=space.stem,
            space=Space(space),
            planner=_planner(),
            base=_planner().base,
            store=open_store(None),
            output=output,
            tracking=tracking,
            trials=10,
        )
        launch.launch_study(spec)
    return space.stem


def _planner() -> Planner:
    return make_planner(open_store(None), None, suggested_network(Device.here()), {})


def _folder() -> Path:
    return output_root() / "data"
