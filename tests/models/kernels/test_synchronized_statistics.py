"""Two processes with half the batch each: the numbers of one process with all of it."""

import copy
from pathlib import Path

import pytest
import torch
from network_inputs import Inputs, random_inputs
from torch import Tensor, distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from ossnet.models import OccupancyNetwork, Prediction, build_network

RANKS = 2


def network(norm: str) -> OccupancyNetwork:
    torch.manual_seed(0)
    built = build_network(
        "oss-net-d",
        encoder_channels=(4, 6),
        latent_grid=(2, 2, 2),
        decoder_width=16,
        decoder_blocks=2,
        patch_edge=3,
        conditional_norm=norm,
    )
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built.double()


def whole_batch(config: object) -> Inputs:
    inputs = random_inputs(config, (8, 16, 8), batch=2 * RANKS, dtype=torch.float64)
    shift = torch.arange(2.0 * RANKS, dtype=torch.float64)  # ranks must differ for the test to show it
    return inputs._replace(encoder_input=inputs.encoder_input + shift.view(-1, 1, 1, 1, 1))


def share(inputs: Inputs, rank: int) -> Inputs:
    own = slice(2 * rank, 2 * rank + 2)
    return Inputs(*(part[own] for part in inputs[:3]), inputs.grid_shape)


def loss_of(prediction: Prediction) -> Tensor:
    return prediction.logits.square().mean() + prediction.auxiliary.square().mean()


def results(module: torch.nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    prediction = module(*inputs)
    loss_of(prediction).backward()
    inner = getattr(module, "module", module)
    return {
        "logits": prediction.logits.detach(),
        **{f"gradient {key}": parameter.grad for key, parameter in inner.named_parameters()},
        **{f"buffer {key}": buffer for key, buffer in inner.named_buffers() if "toeplitz_index" not in key},
    }


def work(rank: int, folder: str, norm: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS
    )
    try:
        module = DistributedDataParallel(network(norm))
        inputs = share(whole_batch(module.module.config), rank)
        torch.save(results(module, inputs), Path(folder) / f"{rank}.pt")
        with torch.no_grad():  # evaluation of one rank alone must not wait for the others
            if rank == 0:
                module.module.eval()(*inputs)
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("norm", ["scalar", "feature"])
def test_two_ranks_compute_what_one_process_does(norm: str, tmp_path: Path) -> None:
    multiprocessing.spawn(work, args=(str(tmp_path), norm), nprocs=RANKS)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]
    single = network(norm)
    expected = results(copy.deepcopy(single), whole_batch(single.config))
    logits = torch.cat([rank.pop("logits") for rank in ranks])
    torch.testing.assert_close(logits, expected.pop("logits"))
    for rank in ranks:
        assert set(rank) == set(expected)
        for key, value in expected.items():
            scale = float(value.abs().max())
            torch.testing.assert_close(rank[key], value, rtol=1e-6, atol=1e-7 * scale + 1e-9, msg=key)
