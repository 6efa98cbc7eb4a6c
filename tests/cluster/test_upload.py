"""What `ray job submit --working-dir .` sends: the code of jobs, and nothing else that lies beside it."""

import shutil
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
SECRETS = (
    ".env",
    ".aws/credentials",
    ".netrc",
    "id_rsa",
    "credentials.json",
    "hf_token",
    "key.pem",
    "scans/patient.nii.gz",
    "segmentations/patient.nii.gz",
    "study.db",
    "mlflow.db-wal",
    "runs/study/study.db",
    "mine/notes.txt",
    "ossnet/.env",
    "ossnet/data/patient.nii.gz",
    "ossnet/models/weights.pt",
    "search_spaces/study.db",
    "jobs/id_rsa",
)


def upload(checkout: Path, package: Path) -> set[PurePosixPath]:
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    excludes = get_runtime_env_default_excludes()
    create_package(str(checkout), package, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(package) as archive:
        return {PurePosixPath(each.filename) for each in archive.infolist() if not each.is_dir()}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is uploaded, with what people leave lying about."""
    copy = tmp_path / "checkout"
    for name in ("jobs", "ossnet", "search_spaces"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".rayignore", "pyproject.toml", "README.md", "setup.py"):
        shutil.copy(ROOT / name, copy / name)
    for name in (*SECRETS, "my_space.py", "search_spaces/mine.py"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("private")
    return copy


def test_all_code_is_sent_and_nothing_private(checkout: Path, tmp_path: Path) -> None:
    sent = upload(checkout, tmp_path / "package.zip")
    assert not {PurePosixPath(name) for name in SECRETS} & sent
    code = {
        PurePosixPath(path.relative_to(ROOT))
        for folder in ("jobs", "ossnet", "search_spaces")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert code <= sent
    others = sent - code
    assert others == {PurePosixPath(name) for name in ("my_space.py", "search_spaces/mine.py")} | {
        PurePosixPath(name) for name in ("pyproject.toml", "README.md", "setup.py")
    }
    assert (tmp_path / "package.zip").stat().st_size < 5e6
