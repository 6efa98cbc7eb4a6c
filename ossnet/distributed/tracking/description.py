"""What MLflow shows of a run beside its numbers: its data set, and a description in Markdown."""

import json
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ossnet.data import Store
from ossnet.errors import printable
from ossnet.metric_names import MEMORY, VAL_DICE

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = "mlflow.note.content"
"""Tag of a run that MLflow shows as its description."""
OVERLAYS = "overlays"
"""Folder of a run's pictures among its artifacts."""
_DIGEST = 36  # characters that MLflow keeps
_PICTURE = "!["  # how a line with one begins


def dataset_of(store: Store, *, fold: int | None = None) -> dict[str, str]:
    """The data set of a run, for `Tracker.log_input`: the store, its fingerprint and its split."""
    manifest = store.manifest
    splits = {name: len(store.split(name, fold=fold)) for name in ("training", "validation")}
    profile = {"modalities": list(store.task.modalities), "classes": list(store.task.class_names), **splits}
    profile |= {} if fold is None else {"fold": fold}
    return {
        "name": store_name(store),
        "digest": manifest.fingerprint[:_DIGEST],
        "source": printable(str(store.root)),
        "profile": json.dumps(profile),
    }


def store_name(store: Store) -> str:
    """A store's short name: its folder's, with that of the folder above where it is just `store`."""
    parts = Path(str(store.root)).parts
    named = parts[-2:] if parts[-1] in {"store", "data"} and len(parts) > 2 else parts[-1:]
    return "/".join(named)


def describe(
    title: str,
    store: Store,
    metrics: Mapping[str, float] | None = None,
    params: Mapping[str, Any] | None = None,
) -> str:
    """The description of a run as Markdown: what it came to, of which data, and the command that made it.

    Args:
        metrics: those that are known; without a Dice nothing is said of it.
        params: what varies between it and others.
    """
    known = metrics or {}
    lines = [f"**{title}** on `{printable(str(store.root))}`"]
    figures = [f"Dice **{known[VAL_DICE]:.4f}** (validation)"] if VAL_DICE in known else []
    figures += [f"peak memory {known[MEMORY]:.3f} GiB"] if MEMORY in known else []
    lines += [", ".join(figures)] if figures else []
    if params:
        lines.append("\n".join(f"- {name}: `{value}`" for name, value in params.items()))
    return "\n\n".join([*lines, f"```sh\n{command_line()}\n```"])


def command_line() -> str:
    """The command that runs now, without passwords."""
    program, *arguments = sys.argv
    words = ["python", program] if program.endswith(".py") else [Path(program).name]
    return printable(shlex.join([*words, *arguments]))


def store_picture(client: "MlflowClient", run_id: str, png: bytes, name: str) -> None:
    """Store a picture among a run's overlays."""
    with tempfile.TemporaryDirectory() as aside:
        (Path(aside) / name).write_bytes(png)
        client.log_artifacts(run_id, aside, OVERLAYS)


def show_picture(client: "MlflowClient", run_id: str, name: str) -> None:
    """Show a picture of a run's overlays at the end of its description, once.

    MLflow's page resolves the link: its server hands out what is stored with the run.
    """
    note = client.get_run(run_id).data.tags.get(NOTE, "")
    line = (
        f"{_PICTURE}{Path(name).stem}](get-artifact?path={quote(f'{OVERLAYS}/{name}', '')}&run_uuid={run_id})"
    )
    if line not in note:
        client.set_tag(run_id, NOTE, f"{note}\n\n{line}".strip())


def keep_pictures(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> Mapping[str, str]:
    """Tags to write, where a new description has the pictures of the earlier one, too."""
    if NOTE not in tags:
        return tags
    earlier = client.get_run(run_id).data.tags.get(NOTE, "").splitlines()
    pictures = [line for line in earlier if line.startswith(_PICTURE)]
    return {**tags, NOTE: "\n\n".join([tags[NOTE], *pictures])}
