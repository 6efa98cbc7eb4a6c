"""Files outside of a source: data sets from elsewhere may name any, in a table or by links."""

from dataclasses import replace
from pathlib import Path

from ossnet.data.layouts.source import Case, Source, report
from ossnet.errors import UserError


def without_outside(source: Source) -> Source:
    """The source without cases that have files outside of it; each has an error that names the first one."""
    root, cases, unmatched = source.root.resolve(), list[Case](), dict(source.unmatched)
    for case in source.cases:
        file = _first_outside(case, root)
        if file is None:
            cases.append(case)
            continue
        error = UserError(
            file,
            expected=f"a file below {source.root}",
            found=str(file.resolve()),
            remedy="copy it there, or give --allow-outside if it is to be read",
        )
        report(unmatched, case.id, error)
    return replace(source, cases=tuple(cases), unmatched=unmatched)


def _first_outside(case: Case, root: Path) -> Path | None:
    files = [*case.images, *([] if case.label is None else [case.label])]
    return next((file for file in files if not file.resolve().is_relative_to(root)), None)
