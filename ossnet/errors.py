"""The one exception that means "the user can fix this"."""

import re
from pathlib import Path

_PASSWORD = re.compile(r"(://[^/\s@:]*:)[^/\s@]+(?=@)")


def printable(text: str) -> str:
    r"""A text that can be printed and stored.

    Bytes of file names that are no UTF-8 are written as `\xf6`, the passwords of URLs as `***`.
    """
    text = _PASSWORD.sub(r"\1***", text)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # halves of characters that no file name gives
        return text.encode("utf-8", "backslashreplace").decode()


class UserError(ValueError):
    """A user's mistake, printed as one line: `where: expected X, found Y; remedy`. Jobs exit with code 2.

    Args:
        where: the file, option or field at fault; or, given alone, the whole sentence.
        expected: what should be there.
        found: what is there instead.
        remedy: how to fix it, in the imperative.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.where = printable(str(where))
        self.expected, self.found, self.remedy = (
            None if each is None else printable(each) for each in (expected, found, remedy)
        )
        super().__init__(str(self))  # tyro prints the first argument of what a dataclass raises

    def __str__(self) -> str:
        facts = [
            f"{name}{value}"
            for name, value in (("expected ", self.expected), ("found ", self.found))
            if value is not None
        ]
        line = f"{self.where}: {', '.join(facts)}" if facts else self.where
        return printable(line if self.remedy is None else f"{line}; {self.remedy}")


class StoreError(UserError):
    """A store cannot be read, for now or from here, which is no fault of what reads it."""


class CaseError(StoreError):
    """A case of a store cannot be read, whoever tries: its file is gone, damaged, or not one of ours."""

    def at(self, where: str | Path) -> "CaseError":
        """The same error at a place that says more."""
        return CaseError(where, expected=self.expected, found=self.found, remedy=self.remedy)


class TimeTooShort(UserError):  # noqa: N818 - as it is no fault
    """The time that a run has does not suffice for one step and one validated case."""


class OutOfMemory(UserError):  # noqa: N818 - as torch's own is called
    """A configuration needs more memory than there is here."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
