"""What `ray job submit --working-dir .` sends: the code of jobs, and nothing that changes while they run."""

import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]


def test_the_working_directory_is_sent_without_outputs_and_tests(tmp_path: Path) -> None:
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    with zipfile.ZipFile(package) as archive:
        sent = [PurePosixPath(each.filename) for each in archive.infolist() if not each.is_dir()]
    folders = {path.parts[0] for path in sent}
    assert {"jobs", "ossnet", "search_spaces"} <= folders
    assert not {"cluster", "data", "docs", "mlartifacts", "mlruns", "runs", "tests"} & folders
    assert not [path for path in sent if ".db" in path.suffixes or path.suffix == ".log"]
    assert PurePosixPath("ossnet/distributed/cluster/connection.py") in sent
    assert package.stat().st_size < 5e6
