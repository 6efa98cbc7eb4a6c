"""The token that clients show: the user's own, or one that is made for as long as the server runs."""

import hashlib
import hmac
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ossnet.errors import UserError

VARIABLE = "OSSNET_TOKEN"
"""The environment variable that may hold one."""
_SHORTEST = 16
"""Characters; shorter ones can be guessed."""
logger = logging.getLogger(__name__)


def given_token(file: Path | None) -> str | None:
    """The user's own token, of a file or else of the environment; None where there is none.

    It is taken out of the environment, so that no process that starts from here has it.

    Raises:
        UserError: the file cannot be read, or the token is too short or cannot stand in a header.
    """
    variable = os.environ.pop(VARIABLE, None)
    if file is not None:
        return _checked(_read(file), file)
    return None if variable is None else _checked(variable, VARIABLE)


@contextmanager
def new_token(port: int) -> Iterator[tuple[str, Path]]:
    """A random token and its file, which only its user can read and which goes with the block.

    Raises:
        UserError: the file cannot be written.
    """
    token, path = secrets.token_urlsafe(), _state_folder() / f"serve-{port}.token"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(dir=path.parent)  # readable by its user alone
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{token}\n")
        Path(aside).replace(path)
    except OSError as error:
        expected, remedy = "a file that can be written, for the token", f"set {VARIABLE} to one of your own"
        raise UserError(path, expected=expected, found=str(error.strerror), remedy=remedy) from error
    try:
        yield token, path
    finally:
        path.unlink(missing_ok=True)


def digest(token: str) -> bytes:
    """What the server keeps of a token: it is not found in its memory, nor in what Ray stores of it."""
    return hashlib.sha256(token.encode()).digest()


def is_right(token: str, expected: bytes) -> bool:
    """Whether a token has this digest, in a time that says nothing of either."""
    return hmac.compare_digest(digest(token), expected)


def _state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "ossnet"


def _read(file: Path) -> str:
    try:
        text, mode = file.read_text(), file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        found = "bytes that are no text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
        raise UserError(file, expected="a file with a token", found=found) from error
    if mode & 0o077:
        logger.warning(f"warning: {file}: others can read it; make it yours alone by chmod 600")
    return text


def _checked(text: str, where: str | Path) -> str:
    token = text.strip()
    if len(token) >= _SHORTEST and all("!" <= each <= "~" for each in token):
        return token
    raise UserError(
        where,
        expected=f"a token of {_SHORTEST} or more letters, digits and signs of ASCII",
        found=f"{len(token)} characters" if len(token) < _SHORTEST else "others",
        remedy="make one by: python -c 'import secrets; print(secrets.token_urlsafe())'",
    )
