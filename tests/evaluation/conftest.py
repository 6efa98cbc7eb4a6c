"""A small store and a checkpoint of a small network for it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ossnet.config import Config
from ossnet.data import Store
from ossnet.models import network_from_config
from ossnet.training.checkpoint import save_checkpoint


@pytest.fixture(scope="session")
def store(phantom_store: Path) -> Store:
    """Ten phantom cases, two of them for validation."""
    return Store.open(phantom_store)


@pytest.fixture(scope="session")
def checkpoint(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained."""
    config = Config.preset("oss-net-a", store).resolve_for(store)
    model = replace(config.model, encoder_channels=(4, 4), decoder_width=8, decoder_blocks=1, patch_edge=3)
    config = replace(config, model=model)
    torch.manual_seed(0)
    documents = {"config.json": config.to_json(), "task.json": json.dumps(store.task.to_dict())}
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    save_checkpoint(folder, network=network_from_config(config.model), documents=documents, state={})
    return folder
