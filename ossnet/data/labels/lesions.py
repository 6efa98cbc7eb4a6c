"""Which classes are lesions, of which a case may have many, and which are organs or their parts."""

_LESIONS = (
    "abscess",
    "aneurysm",
    "cancer",
    "carcinoma",
    "cyst",
    "edema",
    "enhanc",
    "fracture",
    "glioma",
    "haemorrhage",
    "hemorrhage",
    "infarct",
    "infection",
    "ischemi",
    "lesion",
    "mass",
    "metasta",
    "necro",
    "nodule",
    "oedema",
    "plaque",
    "polyp",
    "stroke",
    "thromb",
    "tumor",
    "tumour",
)
_SHORT = {"et", "tc", "wt", "ncr", "ed", "net", "snfh", "rc", "wmh"}  # as BraTS and others abbreviate them


def is_lesion(name: str) -> bool:
    """Whether the class of this name is a lesion, as far as the name says; organs are all others."""
    lower = name.lower()
    return lower in _SHORT or any(part in lower for part in _LESIONS)


def components_noun(name: str, count: int) -> str:
    """What the connected components of a class are called: lesions, or parts of an organ."""
    noun = "lesion" if is_lesion(name) else "part"
    return noun if count == 1 else f"{noun}s"
