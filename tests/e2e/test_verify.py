"""jobs/verify.py as a person would run it."""

import html.parser
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from planted_faults import FAULTS, HEALTHY, label_of, plant, rewrite, write_case

from ossnet.data import Store
from ossnet.output.claim import MARKER


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Path:
    return plant(tmp_path_factory.mktemp("faulty") / "scans", FAULTS)


class Pictures(html.parser.HTMLParser):
    """What a page loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]


@pytest.mark.usefixtures("cluster")
def test_twenty_faults_are_found_and_the_rest_is_prepared(run_job, faulty, tmp_path):
    done = run_job("verify", "--source", faulty, "--output", tmp_path / "found", "--json")
    assert done.returncode == 2, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert sorted(finding["case"] for finding in found["findings"]) == sorted(FAULTS)
    assert all(finding["where"] and finding["remedy"] for finding in found["findings"])
    assert found["errors"] + found["warnings"] == len(FAULTS) == 20
    page = (tmp_path / "found" / "verification.html").read_text()
    assert {path.name for path in (tmp_path / "found").iterdir()} == {MARKER, "verification.html"}
    assert len(page) < 1_000_000
    sources = Pictures(page).sources
    assert len(sources) >= len(HEALTHY)
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    for finding in found["findings"]:
        assert Path(finding["where"]).name in page

    done = run_job("prepare", "--source", faulty, "--output", tmp_path / "store", "--json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])["excluded"]) == {
        case for case, fault in FAULTS.items() if fault.severity == "error"
    }
    store = Store.open(tmp_path / "store")
    assert set(HEALTHY) <= set(store.split("all"))
    assert sorted(store.split("all")) == sorted(found["usable"])

    done = run_job("verify", "--data", tmp_path / "store", "--output", tmp_path / "stored", "--json")
    assert done.returncode == 1, done.stderr
    kinds = {finding["case"]: finding["severity"] for finding in json.loads(done.stdout)["findings"]}
    assert set(kinds) == {case for case, fault in FAULTS.items() if fault.severity == "warning"}


def test_a_healthy_study_in_words(run_job, tmp_path):
    write_case(tmp_path / "scans", "BraTS-GLI-00001-000", 0)
    write_case(tmp_path / "scans", "BraTS-GLI-00002-000", 1)
    done = run_job("verify", "--source", tmp_path / "scans")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"BraTS-GLI-00001-000 +BraTS-GLI-00001 +20 x 18 x 16 +1 x 1 x 1 +LPS +int16", done.stdout
    )
    assert "0 errors, 0 warnings" in done.stdout
    assert "Next: ossnet prepare --source" in done.stdout
    (page,) = (tmp_path / "runs").glob("verify-*/verification.html")
    assert "None." in page.read_text()


def test_warnings_alone_and_what_odd_labels_mean(run_job, tmp_path):
    for index, case in enumerate("abc"):
        write_case(tmp_path / "scans", case, index)
    rewrite(label_of(tmp_path / "scans", "a"), np.zeros_like)
    done = run_job("verify", "--source", tmp_path / "scans", "--output", tmp_path / "found")
    assert done.returncode == 1, done.stderr
    assert "warning " in done.stdout
    rewrite(label_of(tmp_path / "scans", "b"), lambda label: np.where(label == 3, 4, label))
    done = run_job("verify", "--source", tmp_path / "scans", "--output", tmp_path / "found")
    assert done.returncode == 2, done.stderr
    assert "label value 4 in 1 case: probably enhancing (3)" in done.stdout
    assert "ossnet prepare --labels enhancing=3,4" in done.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--source", "nowhere"), "nowhere: expected a folder of scans, found no folder"),
        (("--data", "nowhere"), "nowhere: expected a store, found no such folder"),
        (("--source", "a", "--data", "b"), "--source and --data: expected one of them"),
        (("--layout", "dicom"), "csv, bids, brats, lits or folders, found 'dicom'"),
    ],
)
def test_a_mistake_is_one_line(run_job, tmp_path, options, expected):
    done = run_job("verify", *options)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert not (tmp_path / "runs").exists()


def test_a_page_that_cannot_be_written_costs_the_page_only(run_job, tmp_path):
    write_case(tmp_path / "scans", "a", 0)
    options = ("verify", "--source", tmp_path / "scans", "--output", tmp_path / "found")
    assert run_job(*options).returncode == 0
    (tmp_path / "found" / "verification.html").unlink()
    (tmp_path / "found" / "verification.html").mkdir()
    done = run_job(*options)
    assert done.returncode == 2
    assert "20 x 18 x 16" in done.stdout
    (line,) = done.stderr.splitlines()
    assert "verification.html: expected a file that can be written" in line


def test_names_that_are_markup_stay_names(run_job, tmp_path):
    """Case ids come from files: neither the terminal nor the page may take them for anything else."""
    scans = tmp_path / "[bold]<b>scans"
    scans.mkdir()
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    nibabel.save(image, scans / "i.nii")
    (scans / "cases.csv").write_text("case,CT,label\n<i>&[red]x,i.nii,none.nii\n")
    (scans / "labels.json").write_text('{"liver": 1}')
    done = run_job("verify", "--source", scans, "--output", tmp_path / "found")
    assert done.returncode == 2, done.stderr
    assert "<i>&[red]x" in done.stdout
    page = (tmp_path / "found" / "verification.html").read_text()
    assert "&lt;i&gt;&amp;[red]x" in page
    assert "<i>&" not in page


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("numpy", "raise ImportError('no such library')"),
        ("tyro", "this is no Python"),
        ("nibabel", "raise MemoryError"),
        ("jinja2", "raise OSError('stale file handle')"),
    ],
)
def test_a_check_that_breaks_off_is_no_warning(tmp_path, module, text):
    """A library that is broken, so that an import fails at the start of the job or late in it."""
    write_case(tmp_path / "scans", "a", 0)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{module}.py").write_text(text)
    root = Path(__file__).parents[2]
    command = [sys.executable, root / "jobs" / "verify.py", "--source", tmp_path / "scans"]
    path = os.pathsep.join([str(tmp_path / "broken"), str(root)])
    done = subprocess.run(
        [*command, "--output", tmp_path / "found"], env=os.environ | {"PYTHONPATH": path}, capture_output=True
    )
    assert done.returncode == 3, done.stderr
    assert b"Traceback" in done.stderr
