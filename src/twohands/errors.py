"""The one kind of error a user can mend."""


class UserError(Exception):
    """Something the user handed in cannot be used; the message names the value and the remedy. The command line exits with 2."""
