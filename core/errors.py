"""The exceptions for what a user can put right."""


class InputError(ValueError):
    """Wrong input from outside: a file, a line of it, a setting.

    The message names the file, line or key, says what was found and what to do. Commands and stages print it without a
    traceback and exit with code 2.
    """


class NotFiniteError(InputError):
    """A model's scores are NaN or infinite."""

    def __init__(self) -> None:
        super().__init__("the model gives scores that are not finite: its weights are damaged, or its training failed.")
