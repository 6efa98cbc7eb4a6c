"""Report the runs of an MLflow experiment: a table here, and a page, a CSV file and a figure in a folder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ossnet.commands._output import finish, finish_json, new_folder
from ossnet.commands._parse import Command
from ossnet.commands._values import space_file


@dataclass(frozen=True)
class ReportOptions:
    """Options of this job."""

    experiment: str | None = None
    """MLflow experiment; by default that of a small study on a phantom, which is run where there is none."""
    output: Path | None = None
    """Folder for report.html, runs.csv and memory.png; by default runs/report-DATE-TIME."""
    json: bool = False
    """Print the runs as JSON, last and alone."""


COMMAND = Command("report", str(__doc__), ReportOptions)


def main(arguments: Sequence[str]) -> None:
    """Read the runs, write the report, and print a table of them."""
    options = COMMAND.parse(arguments)
    from ossnet.output.claim import claimed_output, job_folder
    from ossnet.output.progress import progress

    with progress("loading libraries"):
        from ossnet.distributed import demo
        from ossnet.distributed.cluster.connection import output_root
        from ossnet.distributed.reports import page, runs
        from ossnet.distributed.tracking.client import TrackingConfig

    output = output_root() / job_folder(options.output or new_folder("report"), "report")
    with claimed_output(output, "report"):
        name = options.experiment or demo.study(space_file("default"))
        tracking = TrackingConfig.at(output_root(), name)
        with progress("reading the runs"):
            rows = runs.read_rows(tracking)
            study = page.summarize_last_study(tracking, rows)
            files = page.write_files(rows, output, title=name, study=study)
    if options.json:
        finish_json({"runs": [asdict(row) for row in rows], "files": files})
        return
    runs.show(rows)
    finish({"runs": len(rows), **files, "MLflow": tracking.uri, "open it with": tracking.open_command})
