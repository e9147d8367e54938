"""The one kind of error a user can mend, and what to say where an extra is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user handed in cannot be used; the message names the value and the remedy. The command line exits with 2."""


@contextmanager
def from_extra(extra: str, who: str) -> Iterator[None]:
    """Imports of what only an extra of the package brings stand within. UserError that names the extra if they fail; `who` needs them."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"{who} needs the extra {extra!r} ({error}); run pip install 'twohands[{extra}]'") from error
