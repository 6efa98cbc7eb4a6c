"""Networks that an installed package adds, and what a broken package does not break."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ossnet.config import Config
from ossnet.errors import UserError
from ossnet.inference import InferenceConfig, predict_volume
from ossnet.models import PRESETS, OccupancyConfig, build_network, network_config
from ossnet.planning import measure, predict
from ossnet.sampling import SamplingConfig

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
        match=r"model.kind: expected one of occupancy, unet, residual-encoder-unet, good, found 'gone'; "
        "install the package",
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


def test_the_documented_network_is_the_one_that_is_tested() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "plugins.md").read_text()
    code = (root / "tests" / "plugin_example" / "example_network.py").read_text()
    assert f"```python\n{code.rstrip()}\n```" in text
