"""Compilation of a network's arithmetic, where a user requests it."""

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
        raise UserError(
            "compile",
            expected="a compiler that torch.compile can use",
            found=str(error.__cause__ or error).strip().partition("\n")[0],
            remedy=str(error).rpartition(": ")[2],
        ) from error
