"""`gradus rank`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from core.errors import InputError
from gradus.errors import taught_errors

LINES_TOGETHER = 64  # at most


def rank(
    model: Annotated[
        list[Path],
        typer.Option(
            help="Folder of a reward model, e.g. artifacts/reward_models/grouped. Or of a translator, which scores by "
            "log P(response | prompt); given several times: an ensemble of translators."
        ),
    ],
) -> None:
    """Score responses. A line in is a JSON object with `prompt` and `responses`; the line out has `rewards` and `order` (best first), too.

    The prompt may be a chat: a list of messages (`role`, `content`), which is scored written out as in a comparison collection.

    A translator writes `log_probabilities` instead of `rewards`. So it can rescore the n-best lists of another system.

    Output comes as soon as there is input. A blank line gives a blank line. A wrong line, or one that is longer than the model reads,
    ends the command with an error that names the line. The lines before it are written first.

    Example: `echo '{"prompt": "Jesus wept.", "responses": ["Jesus was weeping.", "Jesus"]}' | gradus rank --model artifacts/reward_models/grouped`
    """
    from gradus.inference.input_lines import line_groups, standard_input
    from gradus.inference.rank import is_translator, rescored, rewards

    with taught_errors():
        groups, warn = line_groups(standard_input(), LINES_TOGETHER), partial(typer.echo, err=True)
        if is_translator(model[0]):
            scored = rescored(model, groups, warn)
        elif len(model) > 1:
            raise InputError("--model: several models are an ensemble of translators, and the first is a reward model.")
        else:
            scored = rewards(model[0], groups, warn)
        for line in scored:
            typer.echo(line.encode())
