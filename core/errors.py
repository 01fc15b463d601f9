"""The exceptions whose message is all that a user needs: they are printed without a traceback."""


class InputError(ValueError):
    """Wrong input from outside: a file, a line of it, a setting.

    The message names the file, line or key, says what was found and what to do. Commands and stages exit with code 2.
    """


class NotFiniteError(InputError):
    """The scores of a model that was read are NaN or infinite: its folder is the wrong input."""

    def __init__(self) -> None:
        super().__init__("the model gives scores that are not finite: its weights are damaged, or its training failed.")


class DivergedError(Exception):
    """A training has failed: its loss is NaN or infinite. Its input is no wrong one, so its stage exits with code 1."""
