"""What results depend on besides their settings: versions of packages, and the git commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

_PACKAGES = ("ossnet", "torch", "monai", "ray", "optuna", "mlflow", "numpy")


def versions() -> dict[str, str]:
    """The versions of what results depend on, as far as it is installed, by name."""
    found = {name: version(name) for name in _PACKAGES if _is_installed(name)}
    return found | {"python": platform.python_version()}


def git_commit() -> str | None:
    """The commit of this package's own repository; None where it was installed without one."""
    package = Path(str(files("ossnet")))
    command = ["git", "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    root, commit = done.stdout.split("\n")[:2]
    return commit if Path(root) == package.parent else None  # an installed copy may lie in another repository


def _is_installed(package: str) -> bool:
    """Whether a package is installed: a submitted job may run this one from its source."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
