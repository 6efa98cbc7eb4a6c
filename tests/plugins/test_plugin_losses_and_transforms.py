"""Losses and transforms that an installed package adds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ossnet.data import Store
from ossnet.errors import UserError
from ossnet.models import network_config
from ossnet.sampling import AugmentationConfig, SamplingConfig
from ossnet.sampling.batches import batch_maker
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.transforms.augmentation import Augmenter
from ossnet.sampling.transforms.planes import as_tensor
from ossnet.sampling.volume import Volume
from ossnet.training.config import LossConfig
from ossnet.training.losses import segmentation_loss

Install = Callable[..., None]


@pytest.mark.usefixtures("example")
class TestLosses:
    @pytest.mark.parametrize("classes", [1, 3])
    def test_a_loss_is_added_with_its_weight(self, classes: int) -> None:
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(classes + 1, (2, 50), generator=generator)
        logits = torch.randn(2, 1 if classes == 1 else classes + 1, 50, generator=generator)
        plain = segmentation_loss(logits, labels, LossConfig())
        alone = segmentation_loss(logits, labels, LossConfig(cross_entropy_weight=0, extra=("tversky",)))
        both = segmentation_loss(logits, labels, LossConfig(extra=("tversky",), extra_weight=0.5))
        assert 0 < float(alone) < 1
        assert float(both) == pytest.approx(float(plain) + 0.5 * float(alone))

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(
            ValueError, match="extra: expected a known loss, found 'tverski'; did you mean 'tversky'"
        ):
            LossConfig(extra=("tverski",))
        with pytest.raises(ValueError, match="expected one above 0"):
            LossConfig(cross_entropy_weight=0, extra=("tversky",), extra_weight=0)


@pytest.mark.usefixtures("example")
class TestTransforms:
    def test_a_transform_changes_batches_equally_for_equal_seeds(self, phantom_store: Path) -> None:
        store = Store.open(phantom_store)
        case = store.split("training")[0]

        def image(augmentation: AugmentationConfig) -> torch.Tensor:
            make = batch_maker(
                store.task,
                model=network_config("plain-stack", in_channels=len(store.task.modalities)),
                sampling=SamplingConfig(working_shape=(28, 26, 22)),
                augmentation=augmentation,
                seed=0,
            )
            batch = make([Volume.of(store.case(case), SampleKey(0, 0, case))])
            return batch.image  # type: ignore[attr-defined]

        off = {"flip": False, "brightness": 0.0, "noise": 0.0}
        plain = image(AugmentationConfig(probability=1, **off))  # type: ignore[arg-type]
        one, other = (
            image(AugmentationConfig(probability=1, extra=("invert",), **off))  # type: ignore[arg-type]
            for _ in range(2)
        )
        assert torch.equal(one, other)
        assert not torch.equal(one, plain)

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(
            ValueError, match="extra: expected a known transform, found 'inverd'; did you mean 'invert'"
        ):
            AugmentationConfig(extra=("inverd",))


def augment(name: str, image: np.ndarray, label: np.ndarray):
    config = AugmentationConfig(probability=1, flip=False, brightness=0, noise=0, extra=(name,))
    given = as_tensor(image), as_tensor(label)
    return Augmenter(config, 0)(*given, (1, 1, 1), torch.Generator().manual_seed(0))


def test_a_transform_of_the_label_counts_as_a_warp_and_keeps_the_types(install: Install) -> None:
    code = (
        "def roll(image, label, spacing, generator): return image.astype(float) + 1, (label > 1).astype(int)"
    )
    install("rolling", code, "roll = plug_rolling:roll", group="transforms")
    image, label = np.zeros((1, 4, 4, 4), np.float16), np.full((4, 4, 4), 2, np.uint8)
    case = augment("roll", image, label)
    assert (case.image.dtype, case.label.dtype) == (torch.float16, torch.uint8)
    assert case.image.min() == case.label.min() == 1
    assert case.warped
    assert not image.any()


def test_a_transform_may_not_write_into_the_case_nor_change_its_shape(install: Install) -> None:
    code = (
        "def smaller(image, label, spacing, generator): return image[:, 1:], label\n"
        "def writes(image, label, spacing, generator):\n    image += 1\n    return image, label\n"
        "def same(image, label, spacing, generator): return image, label\n"
    )
    install(
        "odd",
        code,
        *(f"{name} = plug_odd:{name}" for name in ("smaller", "writes", "same")),
        group="transforms",
    )
    image, label = np.zeros((1, 4, 4, 4), np.float16), np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(
        UserError,
        match=r"package odd 1.0, entry point smaller of ossnet.transforms: expected an image \(1, 4, 4, 4\)",
    ):
        augment("smaller", image, label)
    with pytest.raises(ValueError, match="read-only"):
        augment("writes", image, label)
    assert not augment("same", image, label).warped
    assert image.flags.writeable


@pytest.mark.parametrize(
    ("group", "name", "expected"),
    [
        ("losses", "dice", "found dice, which ossnet has itself"),
        ("losses", "three", "expected a function of logits and target for three, found 3"),
        ("transforms", "flip", "found flip, which ossnet has itself"),
        ("transforms", "three", "expected a function of image, label, spacing and generator, found 3"),
    ],
)
def test_losses_and_transforms_are_checked_too(
    group: str, name: str, expected: str, install: Install, warnings
) -> None:
    install("broken", "three = 3\ndef flip(): ...\ndice = flip", f"{name} = plug_broken:{name}", group=group)
    kind = {"losses": LossConfig, "transforms": AugmentationConfig}[group]
    with pytest.raises(ValueError, match=f"expected a known .*, found {name!r}"):
        kind(extra=(name,))
    (line,) = warnings()
    assert line.startswith(f"package broken 1.0, entry point {name} of ossnet.{group}: ")
    assert expected in line
