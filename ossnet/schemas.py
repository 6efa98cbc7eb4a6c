"""The versions of what ossnet keeps on disk; docs/files.md says what each of them holds.

A change of fields, labels or tags raises a number. What has another version is refused in one line.
"""

STORE = 3
"""A store: `schema_version` in `manifest.json`."""
CHECKPOINT = 2
"""A checkpoint: `format` in `version.json`."""
RUN = 2
"""A training's folder: `schema` in `run.json`."""
STUDY = 2
"""A study: the attribute `schema` in `study.db`."""
