"""Extension by entry points: what an installed package adds, and what a broken one does not break."""

import logging
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ossnet import plugins
from ossnet.config import Config
from ossnet.data import Store, read_source, write_phantom
from ossnet.errors import UserError
from ossnet.inference import InferenceConfig, predict_volume
from ossnet.models import PRESETS, OccupancyConfig, build_network, network_config
from ossnet.planning import measure, predict
from ossnet.sampling import AugmentationConfig, SamplingConfig
from ossnet.sampling.batches import batch_maker
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.transforms.augmentation import Augmenter
from ossnet.sampling.transforms.planes import as_tensor
from ossnet.sampling.volume import Volume
from ossnet.training.losses import LossConfig, segmentation_loss

Install = Callable[..., None]

GOOD = """
from dataclasses import dataclass, field
from torch import nn
from ossnet.models import DenseConfig, DenseNetwork

@dataclass(frozen=True)
class Good(DenseConfig):
    kind: str = field(default="good", init=False)
    def build(self):
        return Net(self)

class Net(DenseNetwork):
    def __init__(self, config):
        super().__init__(config)
        self.layer = nn.Conv3d(config.in_channels, config.logits, 1)
    def voxel_logits(self, image):
        return self.layer(image)
"""


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """Each test finds the packages of its own path."""
    plugins.clear_cache()
    loaded = set(sys.modules)
    yield
    for name in set(sys.modules) - loaded:
        if name.startswith(("plug_", "example_")):
            del sys.modules[name]
    plugins.clear_cache()


@pytest.fixture
def example(plugin_example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plugin_example)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package with one module and its entry points on the path, as an installer leaves it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def put(name: str, code: str, *points: str, group: str = "networks", text: str | None = None) -> None:
        folder = site / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(points)
        (folder / "entry_points.txt").write_text(text or f"[ossnet.{group}]\n{lines}\n")
        (site / f"plug_{name}.py").write_text(code)

    return put


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """The lines that plug-ins caused so far, whatever an earlier test made of the package's logger."""
    logger = logging.getLogger("ossnet")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    logger.removeHandler(caplog.handler)
    logger.propagate = propagated


@pytest.mark.usefixtures("example")
class TestNetworks:
    def test_the_presets_of_a_package_stand_after_ours(self) -> None:
        names = list(PRESETS)
        assert names[-2:] == ["plain-stack", "plain-stack-wide"]
        assert len(PRESETS) == len(names)
        assert PRESETS["plain-stack-wide"].width == 64  # type: ignore[attr-defined]

    @pytest.mark.parametrize(("classes", "logits"), [(1, 1), (2, 3)])
    def test_a_network_is_built_by_its_name_for_any_size(self, classes: int, logits: int) -> None:
        network = build_network("plain-stack", classes=classes, in_channels=2, width=4)
        assert network(torch.zeros(1, 2, 7, 8, 9)).shape == (1, logits, 7, 8, 9)

    def test_a_wrong_field_is_an_error_as_of_ours(self) -> None:
        with pytest.raises(
            ValueError, match="plain-stack: expected a known field, found 'widht'; did you mean 'width'"
        ):
            network_config("plain-stack", widht=4)
        with pytest.raises(UserError, match="model: width: expected at least 1, found 0"):
            Config.preset("plain-stack").replace({"model.width": 0})

    def test_its_configuration_survives_json_pickle_and_dotted_paths(self) -> None:
        config = Config.preset("plain-stack").replace({"model.width": 8, "loss.extra": ["tversky"]})
        assert Config.from_json(config.to_json()) == config
        assert pickle.loads(pickle.dumps(config)) == config
        assert config.flatten()["model.width"] == 8

    def test_memory_is_predicted_as_it_is_measured(self) -> None:
        changes = {"sampling.working_shape": [16, 12, 10], "training.batch_size": 2, "model.width": 8}
        config = Config.preset("plain-stack").replace(changes | {"loss.extra": ["tversky"]})
        assert predict(config).allocated == pytest.approx(measure(config, device="cpu").allocated, rel=0.02)

    def test_windows_of_the_crop_cover_a_larger_volume(self) -> None:
        network = build_network("plain-stack", width=4, depth=1)
        predicted = predict_volume(
            network,
            torch.rand(1, 20, 18, 16),
            sampling=SamplingConfig(working_shape=(20, 18, 16), crop_shape=(8, 8, 8)),
            settings=InferenceConfig(),
        )
        assert predicted.classes.shape == (20, 18, 16)


def test_a_network_of_a_package_that_is_gone_is_named(install: Install, warnings) -> None:
    install("solid", GOOD, "good = plug_solid:Good")
    text = Config.preset("good").to_json().replace('"good"', '"gone"')
    with pytest.raises(
        UserError,
        match=r"model.kind: expected one of occupancy, unet, good, found 'gone'; install the package",
    ):
        Config.from_json(text)
    assert not warnings()


@pytest.mark.parametrize(
    ("code", "point", "expected"),
    [
        ("import a_module_that_is_not_there", "bad = plug_broken:X", "found ModuleNotFoundError: No module"),
        ("raise SystemExit(3)", "bad = plug_broken:X", "found SystemExit: 3"),
        ("1 / 0", "bad = plug_broken:X", "expected plug_broken:X to load, found ZeroDivisionError"),
        ("", "bad = plug_broken:Missing", "found AttributeError"),
        ("", "bad = plug_nowhere:X", "found ModuleNotFoundError"),
        ("X = 3", "bad = plug_broken:X", "expected a class below ossnet.models.DenseConfig, found 3"),
        ("class X: pass", "bad = plug_broken:X", "expected a class below ossnet.models.DenseConfig"),
        (
            "from ossnet.models import DenseConfig\nclass X(DenseConfig): kind = 'bad'",
            "bad = plug_broken:X",
            "expected a frozen dataclass, found X",
        ),
        (GOOD, "bad = plug_broken:Good", "expected Good.kind to be 'bad', found 'good'"),
        (
            GOOD.replace('"good"', '"bad"')
            + "    \nGood.presets = classmethod(lambda cls: {'bad': cls(name='worse')})",
            "bad = plug_broken:Good",
            "expected presets() to give a Good named 'bad'",
        ),
        (
            GOOD.replace('"good"', '"bad"') + "\nGood.presets = classmethod(lambda cls: 1 / 0)",
            "bad = plug_broken:Good",
            "expected plug_broken:Good to work, found ZeroDivisionError",
        ),
        (
            GOOD.replace('"good"', '"unet"'),
            "unet = plug_broken:Good",
            "expected names of its own, found kind unet, which ossnet has itself",
        ),
        (
            GOOD.replace('"good"', '"bad"')
            + "\nGood.presets = classmethod(lambda cls: {'o-net': cls(name='o-net')})",
            "bad = plug_broken:Good",
            "expected names of its own, found network o-net, which ossnet has itself",
        ),
    ],
)
def test_a_broken_package_is_named_in_a_line_and_disables_only_itself(
    code: str, point: str, expected: str, install: Install, warnings
) -> None:
    install("broken", code, point)
    install("solid", GOOD, "good = plug_solid:Good")
    for _ in range(2):  # the line comes once
        assert "good" in PRESETS
        assert "bad" not in PRESETS
        assert isinstance(PRESETS["o-net"], OccupancyConfig)
    (line,) = warnings()
    name = point.split(" =")[0]
    assert line.startswith(f"package broken 1.0, entry point {name} of ossnet.networks: expected ")
    assert expected in line
    assert "\n" not in line
    assert build_network("good")(torch.zeros(1, 1, 3, 3, 3)).shape == (1, 1, 3, 3, 3)


def test_of_two_packages_with_one_name_neither_wins(install: Install, warnings) -> None:
    install("first", GOOD, "good = plug_first:Good")
    install("second", GOOD, "good = plug_second:Good")
    install("solid", GOOD.replace('"good"', '"better"'), "better = plug_solid:Good")
    assert "good" not in PRESETS
    assert "better" in PRESETS
    first, second = warnings()
    for line, package, other in ((first, "first", "second"), (second, "second", "first")):
        assert line.startswith(f"package {package} 1.0, entry point good of ossnet.networks: ")
        assert f"found kind good, network good in package {other} 1.0, entry point good" in line


def test_damaged_metadata_disables_its_package_only(install: Install, warnings) -> None:
    install("damaged", "", text="[ossnet.networks]\nno equals sign\n")
    install("solid", GOOD, "good = plug_solid:Good")
    assert "good" in PRESETS
    (line,) = warnings()
    assert line.startswith("package damaged 1.0: expected entry points, found ")


def test_nothing_is_looked_for_until_it_is_needed(install: Install, tmp_path: Path) -> None:
    install("loud", "print('loaded')\n" + GOOD, "good = plug_loud:Good")
    script = (
        "import sys\n"
        "from ossnet.config import Config\n"
        "Config.preset('oss-net-c')\n"
        "print('ossnet' in sys.modules, 'plug_loud' in sys.modules)\n"
        "Config.preset('good')\n"
    )
    path = [str(tmp_path / "site"), *sys.path]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "loaded"]


def test_a_network_that_builds_something_else_is_named(install: Install) -> None:
    install("solid", GOOD.replace("return Net(self)", "return nn.Identity()"), "good = plug_solid:Good")
    with pytest.raises(
        ValueError, match=r"Good.build: expected an ossnet.models.DenseNetwork, found Identity"
    ):
        build_network("good")


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


LAYOUT = """
from ossnet.data.layouts import Layout
def fails(path): raise KeyError("no\\nsuch key")
fine = Layout("fine", "anything", lambda path: True, lambda path: 3)
other = Layout("other", "anything", lambda path: True, fails)
shy = Layout("shy", "nothing", fails, fails)
lits = Layout("lits", "anything", lambda path: True, fails)
"""


class TestLayouts:
    @pytest.fixture
    def scans(self, scans_and_masks: Path) -> Path:
        return scans_and_masks

    @pytest.mark.usefixtures("example")
    @pytest.mark.parametrize("layout", ["auto", "scan-and-mask"])
    def test_a_layout_is_recognized_and_chosen_by_name(self, layout: str, scans: Path) -> None:
        source = read_source(scans, layout)
        assert source.layout == "scan-and-mask"
        assert [case.id for case in source.cases] == ["phantom_000", "phantom_001"]
        assert all(case.images[0].is_file() and case.label.is_file() for case in source.cases)  # type: ignore[union-attr]

    @pytest.mark.usefixtures("example")
    def test_ours_are_recognized_first_and_all_are_listed(self, tmp_path: Path, scans: Path) -> None:
        ours = write_phantom(tmp_path / "both", cases=1, shape=(12, 10, 8))
        (scans / "phantom_000").rename(ours / "phantom_000")
        assert read_source(ours).layout == "msd"
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match=r"volume-0.nii \(lits\) or case/scan.nii.gz \(scan-and-mask\)"):
            read_source(tmp_path / "empty")
        with pytest.raises(UserError, match="brats, lits or scan-and-mask, found 'dicom'"):
            read_source(tmp_path / "empty", "dicom")

    def test_one_that_fails_to_recognize_is_passed_over(
        self, scans: Path, install: Install, warnings
    ) -> None:
        install("shy", LAYOUT, "shy = plug_shy:shy", group="layouts")
        with pytest.raises(UserError, match="expected a known layout"):
            read_source(scans)
        (line,) = warnings()
        assert line.startswith("package shy 1.0, entry point shy of ossnet.layouts: expected to recognize ")
        assert "found KeyError" in line

    def test_two_that_recognize_a_folder_are_named(self, scans: Path, install: Install) -> None:
        install("both", LAYOUT, "fine = plug_both:fine", "other = plug_both:other", group="layouts")
        with pytest.raises(
            UserError,
            match=r"point fine .+ and .+ point other .+; choose by --layout fine or --layout other",
        ):
            read_source(scans)

    @pytest.mark.parametrize(("name", "found"), [("fine", "found int"), ("other", "found KeyError")])
    def test_one_that_cannot_read_is_named(
        self, name: str, found: str, scans: Path, install: Install
    ) -> None:
        install("both", LAYOUT, f"{name} = plug_both:{name}", group="layouts")
        with pytest.raises(
            UserError, match=f"entry point {name} of ossnet.layouts to give a Source, {found}"
        ):
            read_source(scans)

    @pytest.mark.parametrize(
        ("name", "point", "expected"),
        [
            ("lits", "lits", "found lits, which ossnet has itself"),
            ("fails", "fails", "expected an ossnet.data.layouts.Layout, found <function"),
            ("more", "fine", "expected a layout named more, found fine"),
        ],
    )
    def test_one_that_is_wrong_disables_itself(
        self, name: str, point: str, expected: str, scans: Path, install: Install, warnings
    ) -> None:
        install("broken", LAYOUT, f"{name} = plug_broken:{point}", group="layouts")
        with pytest.raises(UserError, match="expected a known layout"):
            read_source(scans)
        (line,) = warnings()
        assert line.startswith(f"package broken 1.0, entry point {name} of ossnet.layouts: ")
        assert expected in line


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


def test_the_documented_network_is_the_one_that_is_tested() -> None:
    root = Path(__file__).parents[1]
    text = (root / "docs" / "plugins.md").read_text()
    code = (root / "tests" / "plugin_example" / "example_network.py").read_text()
    assert f"```python\n{code.rstrip()}\n```" in text
