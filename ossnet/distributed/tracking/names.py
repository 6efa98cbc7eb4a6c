"""Names of users as MLflow takes them, and back.

A legal name stays as it is. Any other has its illegal characters replaced, is cut to length and ends in eight
digits of its hash, so that no two names become one; what it was is kept as a tag.
"""

import hashlib
import json
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

ORIGINAL = "original_name"
"""Tag of what was renamed; of a run, `original_name/<legal name>`: the name as JSON."""
_KEY_LIMIT = 230  # with the tag's own prefix below MLflow's 250
_FILE_LIMIT = 120
_MODEL_LIMIT = 200
_EXPERIMENT_LIMIT = 480
_RENAMED = re.compile(r"--[0-9a-f]{8}$")  # a name that looks like a renamed one is renamed as well


def legal_key(name: str) -> str:
    """The name of a metric, a parameter or a tag: letters of any script, digits and `/ _ - . :` and space."""
    readable = re.sub(r"[^/\w.\- :]", "_", name)
    if readable == name and name and _is_path(name) and len(name) <= _KEY_LIMIT and not _RENAMED.search(name):
        return name
    parts = ["_" if part in {"", ".", ".."} else part for part in readable.split("/")]
    path = "/".join(parts)
    path = f"_{path}" if path.startswith("..") else path
    return path[: _KEY_LIMIT - 10] + _mark(name)


def legal_file(name: str) -> str:
    """The name of an artifact: ASCII letters, digits and `_ - .` and space; its suffix is kept."""
    suffix = PurePosixPath(name).suffix
    suffix = suffix if re.fullmatch(r"\.\w{1,10}", suffix, re.ASCII) else ""
    return _legal(name, r"[^\w.\- ]", _FILE_LIMIT, suffix=suffix, flags=re.ASCII)


def legal_model(name: str) -> str:
    """The name of a registered model: letters of any script, digits and `_ -` and space."""
    return _legal(name, r"[^\w\- ]", _MODEL_LIMIT)


def legal_experiment(name: str) -> str:
    """The name of an experiment or a study: all that can be printed."""
    readable = "".join("_" if unicodedata.category(each) in {"Cc", "Cs"} else each for each in name)
    if readable == name and name.strip() and len(name) <= _EXPERIMENT_LIMIT and not _RENAMED.search(name):
        return name
    return (readable.strip() or "unnamed")[: _EXPERIMENT_LIMIT - 10] + _mark(name)


def legal_text(value: object) -> str:
    """A value as text that can be encoded: a surrogate, from a name that is not UTF-8, is written out."""
    text = "null" if value is None else str(value)
    return text.encode("utf-8", "backslashreplace").decode()


def original_tags(names: Iterable[str]) -> dict[str, str]:
    """The tags of a run that keep the names that `legal_key` changed."""
    legal = {name: legal_key(name) for name in names}
    return {f"{ORIGINAL}/{new}": json.dumps(name) for name, new in legal.items() if new != name}


def original_keys(tags: Mapping[str, str]) -> dict[str, str]:
    """The original names by their legal ones, from the tags of a run; those that were legal are not in it."""
    prefix = f"{ORIGINAL}/"
    return {
        tag.removeprefix(prefix): json.loads(text) for tag, text in tags.items() if tag.startswith(prefix)
    }


def _legal(
    name: str, illegal: str, limit: int, *, suffix: str = "", flags: "re.RegexFlag" = re.NOFLAG
) -> str:
    readable = re.sub(illegal, "_", name, flags=flags)
    plain = readable == name and _is_path(name) and name == name.strip() and not name.startswith(".")
    if plain and len(name) <= limit and not _RENAMED.search(name.removesuffix(suffix)):
        return name
    stem = readable.removesuffix(suffix).strip(" .") or "unnamed"
    return stem[: limit - 10 - len(suffix)] + _mark(name) + suffix


def _is_path(name: str) -> bool:
    """Whether a name, taken as a relative path, leads to itself."""
    path = posixpath.normpath(name)
    return path == name and path != "." and not path.startswith(("..", "/"))


def _mark(name: str) -> str:
    return f"--{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
