"""Scans that only the job's node has, read on others."""

from dataclasses import replace
from pathlib import Path

import pytest

from ossnet.distributed.data.job_files import JobFiles, copied, of_the_job
from ossnet.output.file_stamp import FileStamp, stamps_of


@pytest.mark.usefixtures("cluster")
def test_a_node_without_the_files_has_copies_for_a_while(tmp_path: Path) -> None:
    paths = [tmp_path / "scan.nii.gz", tmp_path / "case" / "scan.nii.gz"]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([number]) * 2500)
    files, stamps = replace(JobFiles.here(), chunk_bytes=1000), stamps_of([*paths, tmp_path / "none"])
    assert [stamp.path for stamp in stamps] == list(map(str, paths))
    with files.at_hand(stamps) as folder:
        assert folder is None
        assert copied(paths[0], folder) == paths[0]
    others = [stamps[0], stamps[1]._replace(time_ns=0)]  # as where another file has that path
    with files.at_hand(others) as folder:
        assert folder is not None
        for path in paths:
            copy = copied(path, folder)
            assert copy != path
            assert copy.read_bytes() == path.read_bytes()
            assert of_the_job(f"{copy}: no scan", folder) == f"{path}: no scan"
    assert not folder.exists()
    gone = FileStamp(str(tmp_path / "none"), 1, 1)
    with pytest.raises(FileNotFoundError), files.at_hand([gone]):
        pass
