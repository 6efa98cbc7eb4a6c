"""What a resumed training rejects before anything starts."""

import json
from pathlib import Path

import pytest

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.launch import launch_training
from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.errors import UserError


@pytest.mark.parametrize(
    ("run", "found"),
    [
        ({"id": "a"}, "one without a schema"),
        ({"id": "a", "schema": 1}, "schema 1"),
        ({"id": "a", "schema": 3}, "schema 3"),
    ],
)
def test_a_run_of_another_schema_is_rejected(
    run: dict[str, object], found: str, tiny: Config, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(tiny.to_json())
    (tmp_path / "run.json").write_text(json.dumps(run))
    line = rf"run\.json: expected a run of schema 2, found {found}; train anew with another --output$"
    with pytest.raises(UserError, match=line):
        launch_training(
            tiny,
            store,
            output=tmp_path,
            workers=1,
            tracking=TrackingConfig.at(tmp_path, "train"),
            resume=True,
        )
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["config.json", "run.json"]
