"""What a release needs beside the code: its files agree with one another, and CI runs what people run."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def read_yaml(name: str) -> dict[object, object]:
    found = yaml.safe_load((ROOT / name).read_text())
    assert isinstance(found, dict)
    return found


def test_ci_runs_what_people_run() -> None:
    workflow = read_yaml(".github/workflows/ci.yml")
    steps = workflow["jobs"]["check"]["steps"]  # type: ignore[index]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert workflow["permissions"] == {"contents": "read"}
    script = (ROOT / ".ci" / "run").read_text()
    assert all(f"make {target}" in script for target in ("setup", "lint", "test"))


def test_the_version_is_the_one_that_is_cited_and_described() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"].partition(".dev")[0]
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == version
    assert {"title", "year", "authors"} <= set(citation["preferred-citation"])  # type: ignore[call-overload]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_what_issues_ask_for_has_labels() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        template = read_yaml(str(path.relative_to(ROOT)))
        assert {"name", "description", "body"} <= set(template)
        assert all(field["attributes"]["label"] for field in template["body"])  # type: ignore[attr-defined]
