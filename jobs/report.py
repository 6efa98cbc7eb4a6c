"""The runs of an MLflow experiment: a table here, and a page, a CSV file and a figure in a folder."""

from dataclasses import asdict, dataclass
from pathlib import Path

from ossnet import cli

SPACES = Path(__file__).parents[1] / "search_spaces"


@dataclass(frozen=True)
class Report:
    """Options of this job."""

    experiment: str | None = None
    """MLflow experiment; by default that of a small study on a phantom, which is run where there is none."""
    output: Path | None = None
    """Folder for report.html, runs.csv and memory.png; by default runs/report-DATE-TIME."""
    json: bool = False
    """Print the runs for machines, last and alone."""


def main() -> None:
    """Run the job."""
    options = cli.parse(Report, description=str(__doc__))
    from ossnet.distributed import demo, launch
    from ossnet.distributed.reports import page, runs

    name = options.experiment or demo.study(SPACES / "networks.py")
    output, tracking = launch.resolve_output(options.output or cli.new_folder("report"), name)
    rows = runs.read_rows(tracking)
    study = page.summarize_last_study(tracking, rows)
    files = page.write_files(rows, output, title=name, study=study)
    if options.json:
        cli.finish_json({"runs": [asdict(row) for row in rows], "files": files})
        return
    runs.show(rows)
    cli.finish(
        made={"runs": len(rows), **files, "MLflow": tracking.uri, "open it with": tracking.open_command}
    )


if __name__ == "__main__":
    cli.run(main)
