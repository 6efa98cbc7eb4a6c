"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """A user's mistake, told in one line: what, where, and how to mend it. Jobs exit with code 2."""
