"""The packages of the wheel; all else about it stands in pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["ossnet", "ossnet.*"]), "ossnet.search_spaces"],
    package_dir={"ossnet.search_spaces": "search_spaces"},
)
