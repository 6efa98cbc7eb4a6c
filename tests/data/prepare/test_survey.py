"""What is known of a case without decompressing it, and that its headers are read once."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from small_study import image_of, label_of, prepare_here

from ossnet.data import PrepareConfig, verify
from ossnet.data.imaging.header import load_header
from ossnet.data.prepare.plan import make_plan

LOAD = load_header.__code__


@contextmanager
def counted_loads() -> Iterator[Counter[str]]:
    """How often each file's header is read in the block, in whatever thread."""
    counts: Counter[str] = Counter()

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code is LOAD:
            counts["/".join(Path(frame.f_locals["path"]).parts[-2:])] += 1

    before: Callable[..., Any] | None = sys.getprofile()
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        yield counts
    finally:
        sys.setprofile(before)
        threading.setprofile(before)


def test_each_header_is_read_once_from_the_source_to_the_store(study, tmp_path):
    with counted_loads() as counts:
        manifest = prepare_here(make_plan(PrepareConfig(study, tmp_path / "store", crop=2.0)))
    assert len(manifest.cases) == 5
    assert set(counts.values()) == {1}
    assert len(counts) == 10  # an image and a label a case


def test_a_finished_store_costs_one_read_of_the_headers(study, tmp_path):
    config = PrepareConfig(study, tmp_path / "store")
    prepare_here(make_plan(config))
    with counted_loads() as counts:
        prepare_here(make_plan(config))
    assert set(counts.values()) == {1}


def test_verifying_reads_each_file_once(study):
    with counted_loads() as counts:
        verify(study)
    assert {counts[name] for name in counts if name.startswith("labelsTr")} == {1}
    assert {counts[name] for name in counts if name.startswith("imagesTr")} == {1}


def test_the_survey_says_why_a_case_cannot_be_used(scans, tmp_path):
    label_of(scans, 3).unlink()
    plan = make_plan(PrepareConfig(scans, tmp_path / "store"))
    info = plan.surveys["phantom_003"]
    assert info.error == plan.excluded["phantom_003"]
    assert (info.images, info.label, info.voxel_bytes) == ((), None, 0)
    good = plan.surveys["phantom_001"]
    assert good.error is None
    assert [file.path for file in good.images] == [image_of(scans)]
    assert good.voxel_bytes == 20 * 18 * 16 * (4 * 2 + 1)
