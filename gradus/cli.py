"""The command `gradus`: what users do by hand, assembled from its groups. Heavy imports happen inside the commands, so `--help` is quick."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from core.process_setup import set_up_process
from gradus import comparisons, data, pipeline, prefix
from gradus.commands.evaluate_rankings import evaluate_rankings
from gradus.commands.generate import generate
from gradus.commands.rank import rank
from gradus.commands.register import register
from gradus.commands.translate import translate

# Options that had another name, by command: whoever types the old one reads the new one.
RENAMED = {
    "translate": {"--beam": "--beam-size", "--length-penalty": "--beam-alpha", "--max-pieces": "--max-length"},
    "generate": {"--beam": "--beam-size", "--batch": "--batch-size", "--max-pieces": "--max-new-tokens"},
    "prefix": {"--out": "--output"},
}


class Commands(TyperGroup):
    """All commands. An old option is an error that names the new one."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except Exception as error:  # NoSuchOption of click, of which typer has a copy of its own
            old = getattr(error, "option_name", "")
            if new := RENAMED.get(ctx.invoked_subcommand, {}).get(old):
                raise typer.BadParameter(f"renamed to {new}.", ctx, param_hint=old) from None
            raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Train models from the LSTM (1997) to reward models and prefix-tuning, reproducibly.

    `gradus run` runs the pipeline of dvc.yaml. Its settings are in params.yaml; `gradus use NAME` copies an experiment's settings into it.
    The other commands use the models and rankings that it makes in artifacts/.""",
)


@app.callback()
def _before_every_command() -> None:
    set_up_process()


PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "The pipeline": (pipeline.run, pipeline.ui, pipeline.use, pipeline.new, pipeline.experiments),
    "Trained models": (translate, generate, rank, evaluate_rankings, register),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(comparisons.app, name="comparisons", rich_help_panel="Data and exchange")
app.add_typer(data.app, name="data", rich_help_panel="Data and exchange")
app.add_typer(prefix.app, name="prefix", rich_help_panel="Data and exchange")


if __name__ == "__main__":
    app()
