"""The best network in MLflow's Model Registry, as a model that reads NIfTI files and holds no pickle.

What is registered is a folder: a checkpoint (safetensors and JSON), this package's source, and
`pyfunc_model.py`, which MLflow runs to load it. So it serves where ossnet is not installed.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.data import Task
from ossnet.distributed.tracking.names import ORIGINAL, legal_model, legal_text
from ossnet.inference.batch.inputs import IMAGE, channel_columns
from ossnet.metric_names import MEMORY, STORE, VAL_DICE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, Run
    from mlflow.models import ModelSignature

OUTPUT = "segmentations"
"""The default folder of label maps, in the working directory of the process that predicts."""
_PACKAGE = files("ossnet")
_REQUIREMENTS = (
    "jaxtyping",
    "lazy_loader",
    "mlflow",
    "monai",
    "nibabel",
    "numpy",
    "pandas",
    "safetensors",
    "scipy",
    "torch",
)
CHAMPION = "champion"
"""Alias of the best version of a model."""
_MODEL = (
    "Segments NIfTI files: paths in, paths of label maps and volumes out. Each version is the best network "
    "of a study; `champion` is the one with the highest Dice on validation cases."
)
_MACHINE = "system/"  # how the names of metrics begin that say nothing of the network
_EXCLUDED = {"state.pt"}  # only needed to resume the training


def register(client: "MlflowClient", run_id: str, checkpoint: Path, name: str) -> str:
    """Register a run's network as the next version of a model; a second call for a run registers nothing.

    Args:
        run_id: MLflow's id of the run.
        name: name of the model; where it is none that the registry takes, a legal one is made of it and the
            model's tag `original_name` keeps it.

    Returns:
        The URI of the version, `models:/name/version`.
    """
    original, name = name, legal_model(name)
    registered = [each for each in client.search_model_versions(f"name = '{name}'") if each.run_id == run_id]
    if registered:
        return f"models:/{name}/{registered[0].version}"
    run = client.get_run(run_id)
    model = client.create_logged_model(
        run.info.experiment_id, name=name, source_run_id=run_id, params=run.data.params
    )
    with tempfile.TemporaryDirectory(prefix="ossnet-model-") as folder:
        saved = Path(folder) / "model"
        save(checkpoint, saved, model_id=model.model_id, run_id=run_id)
        client.log_model_artifacts(model.model_id, str(saved))
    _connect(client, run, model.model_id)
    client.finalize_logged_model(model.model_id, "READY")
    if not client.search_registered_models(f"name = '{name}'"):
        _create_registered_model(client, name, original)
    tags = {each: f"{run.data.metrics[each]:.4f}" for each in (VAL_DICE, MEMORY) if each in run.data.metrics}
    created = client.create_model_version(
        name,
        model.artifact_location,  # its models:/ URI would be looked up in this process's default store
        run_id,
        tags=tags,
        model_id=model.model_id,
        description=_describe(checkpoint, run.data.tags, tags),
    )
    _move_champion(client, name, str(created.version), tags)
    return f"models:/{name}/{created.version}"


def _connect(client: "MlflowClient", run: "Run", model_id: str) -> None:
    """Show a logged model with its run, and give it the last value of each of the run's metrics, as of the
    run's data set."""
    from mlflow.entities import LoggedModelOutput

    inputs = run.inputs.dataset_inputs
    dataset = {} if not inputs else _identity(inputs[-1].dataset)
    run_id = run.info.run_id
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    for name in run.data.metrics:
        if name.startswith(_MACHINE):
            continue
        last = max(client.get_metric_history(run_id, name), key=lambda metric: metric.step)
        client.log_metric(run_id, name, last.value, last.timestamp, last.step, model_id=model_id, **dataset)


def _identity(dataset: "Dataset") -> dict[str, str]:
    return {"dataset_name": dataset.name, "dataset_digest": dataset.digest}


def _describe(checkpoint: Path, run_tags: Mapping[str, str], tags: Mapping[str, str]) -> str:
    """What a version is, as Markdown."""
    task = Task.from_dict(json.loads((checkpoint / "task.json").read_text()), checkpoint / "task.json")
    parts = [f"**{run_tags.get('network', 'network')}**: {', '.join(task.class_names)}"]
    parts += [f"from {', '.join(task.modalities)}; files of each modality, or one of all, in this order"]
    parts += [f"trained on `{run_tags[STORE]}`"] if STORE in run_tags else []
    parts += [f"Dice {tags[VAL_DICE]} (validation)"] if VAL_DICE in tags else []
    return "\n\n".join(parts)


def _move_champion(client: "MlflowClient", name: str, version: str, tags: Mapping[str, str]) -> None:
    """Give a version the alias `champion` where none has it, or one of a lower Dice on validation cases."""
    from mlflow.exceptions import MlflowException

    try:
        current = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:  # there is none
        current = None
    if current is None or float(tags.get(VAL_DICE, "-inf")) > float(current.tags.get(VAL_DICE, "-inf")):
        client.set_registered_model_alias(name, CHAMPION, version)


def _create_registered_model(client: "MlflowClient", name: str, original: str) -> None:
    from mlflow.exceptions import MlflowException

    tags = {} if name == original else {ORIGINAL: legal_text(original)}
    try:
        client.create_registered_model(name, tags=tags, description=_MODEL)
    except MlflowException:  # another job may have made it
        if not client.search_registered_models(f"name = '{name}'"):
            raise


def save(checkpoint: Path, target: Path, *, model_id: str | None = None, run_id: str | None = None) -> None:
    """Write a checkpoint as an MLflow model to a new folder."""
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    task = Task.from_dict(json.loads((checkpoint / "task.json").read_text()), checkpoint / "task.json")
    with tempfile.TemporaryDirectory(prefix="ossnet-model-") as folder:
        copy = Path(folder) / "checkpoint"
        shutil.copytree(checkpoint, copy, ignore=lambda _, names: _EXCLUDED & set(names))
        save_model(
            str(target),
            python_model=str(_PACKAGE / "distributed" / "tracking" / "pyfunc_model.py"),
            artifacts={"checkpoint": str(copy)},
            code_paths=[str(_PACKAGE)],
            signature=_signature(task),
            pip_requirements=[f"{each}=={version(each).partition('+')[0]}" for each in _REQUIREMENTS],
            mlflow_model=Model(model_id=model_id, run_id=run_id),
        )


def _signature(task: Task) -> "ModelSignature":
    """The columns of a scan: one file with all modalities, or one file a modality; each may be left out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    alone = len(task.modalities) == 1
    columns = [IMAGE] if alone else [IMAGE, *channel_columns(task)]
    volumes = [ColSpec(DataType.double, f"{name}_ml") for name in task.class_names]
    case, path, error = (ColSpec(DataType.string, name) for name in ("case", "segmentation", "error"))
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, column, required=alone) for column in columns]),
        outputs=Schema([case, path, *volumes, error]),
        params=ParamSchema([ParamSpec("output", DataType.string, OUTPUT)]),
    )
