"""A network's arithmetic compiled where a user asks for it."""

from torch import nn

from ossnet.errors import UserError
from ossnet.models import compile_arithmetic


def maybe_compile(wanted: bool, network: nn.Module) -> None:
    """Compile a network's arithmetic in place.

    Raises:
        UserError: the compiler does not work here.
    """
    if not wanted:
        return
    try:
        compile_arithmetic(network)
    except RuntimeError as error:
        raise UserError(str(error)) from error
