"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """A user's mistake, told in one line: what, where, and how to mend it. Jobs exit with code 2."""


class OutOfMemory(UserError):  # noqa: N818 - as torch's own is called
    """A configuration needs more memory than there is here."""
