"""Names of modalities: one table for every layout, and for the names of files to predict."""

_ALIASES = {
    "FLAIR": ("flair", "t2f"),
    "T1w": ("t1w", "t1", "t1n"),
    "T1gd": ("t1gd", "t1ce", "t1c"),
    "T2w": ("t2w", "t2"),
    "CT": ("ct",),
}
"""The name used here, and in lower case how MSD, nnU-Net and the generations of BraTS write it."""
_NAMES = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


def modality_name(name: str) -> str:
    """A modality as every layout here calls it; an unknown name stays as it is."""
    return _NAMES.get(name.lower(), name)
