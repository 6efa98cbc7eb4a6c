"""One table of modality names, whatever a layout or a file calls them."""

import pytest

from ossnet.data import Task, read_source
from ossnet.data.layouts import layouts
from ossnet.data.layouts.modalities import channel_names, modality_name, renamed_channels
from ossnet.inference.batch.inputs import find_scans


@pytest.mark.parametrize(
    ("written", "name"),
    [
        *((alias, "FLAIR") for alias in ("flair", "FLAIR", "t2f", "T2F")),
        *((alias, "T1w") for alias in ("t1", "T1w", "t1n")),
        *((alias, "T1gd") for alias in ("t1ce", "T1c", "T1Gd", "T1gd")),
        *((alias, "T2w") for alias in ("t2", "T2w")),
        ("ct", "CT"),
        ("ADC", "ADC"),
        ("t1rho", "t1rho"),
    ],
)
def test_a_modality_has_one_name(written, name):
    assert modality_name(written) == name


@pytest.mark.parametrize(
    ("written", "called", "said"),
    [
        (("MRI", "MRI"), ("MRI_0000", "MRI_0001"), "channel 0 MRI_0000, channel 1 MRI_0001"),
        (("DWI", "dwi", "CT"), ("DWI_0000", "dwi_0001", "CT"), "channel 0 DWI_0000, channel 1 dwi_0001"),
        (("t1", "T1w"), ("T1w_0000", "T1w_0001"), "channel 0 T1w_0000, channel 1 T1w_0001"),
        (("", "x"), ("channel", "x"), "channel 0 channel"),
    ],
)
def test_names_that_are_made_unique_are_said(written, called, said):
    assert channel_names(written) == called
    (warning,) = renamed_channels(written, "dataset.json: modality")
    assert str(warning).startswith("dataset.json: modality: expected channels of different names")
    assert str(warning).endswith(said)


def test_names_that_differ_are_not_spoken_of():
    assert renamed_channels(["t1ce", " FLAIR ", "ADC", "T1rho"], "") == []


@pytest.mark.parametrize("suffixes", [("_flair", "_t1ce"), ("-t2f", "-t1c")])
def test_files_to_predict_are_named_by_the_same_table(tmp_path, suffixes):
    for suffix in suffixes:
        (tmp_path / f"case{suffix}.nii.gz").touch()
    task = Task(modalities=("FLAIR", "T1gd"), labels={"tumour": 1})
    (scan,) = find_scans([tmp_path], task)
    assert [path.name for path in scan.images] == [f"case{suffix}.nii.gz" for suffix in suffixes]
    assert read_source(tmp_path).modalities == task.modalities


def test_layouts_are_listed_by_name_in_the_order_in_which_they_are_tried():
    assert list(layouts()) == ["nnunet", "msd", "csv", "bids", "brats", "lits", "folders"]
    assert all(layout.name == name and layout.example for name, layout in layouts().items())
