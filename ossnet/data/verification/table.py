"""A verification printed in the terminal."""

from ossnet.data.verification import formatting
from ossnet.data.verification.issues import Verification
from ossnet.data.verification.remap import option
from ossnet.output.duration import counted
from ossnet.output.tables import print_table


def show(verification: Verification) -> None:
    """Print the cases, the labels, every finding with its remedy, and what odd labels may mean."""
    from rich.console import Console
    from rich.text import Text

    def draw(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        # As texts: names may hold what rich takes for markup.
        print_table(columns, (map(Text, row) for row in rows), left=len(columns))
        print()

    console = Console()
    draw(formatting.COLUMNS, [formatting.row(view, verification) for view in verification.cases])
    draw(("label", "name", "cases", "fraction of voxels"), [*formatting.label_rows(verification)])
    for finding in verification.findings:
        style = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}[finding.severity]
        line = Text.assemble((finding.severity, style), f" {finding.where}: {finding.what}; {finding.remedy}")
        console.print(line, soft_wrap=True)
    for each in verification.remap:
        found = f"label value {each.value} in {counted(len(each.cases), 'case')}"
        console.print(Text(f"{found}: probably {each.name} ({each.to}); {each.why}"), soft_wrap=True)
    if (change := option(verification.remap, verification.labels)) is not None:
        console.print(Text(f"to read them so: ossnet prepare {change}"), soft_wrap=True)
