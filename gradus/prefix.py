"""`gradus prefix`: exchange prefixes with PEFT."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import InputError
from gradus.errors import taught_errors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Exchange prefixes with PEFT.

    A prefix is a folder with `prefix.safetensors` and `prefix.json`, e.g. artifacts/prefix_tuning/prefix. It belongs to one base
    model, which is recognized by a hash of its weights.""",
)

Model = Annotated[Path, typer.Option(help="Folder of the base model, e.g. artifacts/base_models/smollm2.")]
Output = Annotated[Path, typer.Option(help="New folder to write.")]


@app.command()
def export(
    prefix: Annotated[Path, typer.Option(help="Folder of a prefix, e.g. artifacts/prefix_tuning/prefix.")],
    output: Output,
    model: Model = Path("artifacts/base_models/smollm2"),
) -> None:
    """Write a prefix as a PEFT adapter: `PeftModel.from_pretrained(base, OUTPUT)` then gives the same logits.

    Example: `gradus prefix export --prefix artifacts/prefix_tuning/prefix --output my_adapter`
    """
    from model_io.peft import export_prefix

    with taught_errors():
        _new(output, lambda folder: export_prefix(prefix, _skeleton(model), model, folder))
        typer.echo(f"{output}: a PEFT adapter for {model}")


@app.command("import")
def import_(
    peft: Annotated[Path, typer.Option(help="Folder of a PEFT adapter: prefix tuning or prompt tuning.")],
    output: Output,
    model: Model = Path("artifacts/base_models/smollm2"),
    template: Annotated[str, typer.Option(help="What the model reads; {source} is the line.")] = "{source}",
) -> None:
    r"""Write a PEFT adapter as a prefix.

    PEFT does not record a hash of the base model: name with --model the one that the adapter was trained on.

    Example: `gradus prefix import --peft my_adapter --output my_prefix --template "Restaurant data: {source}\nDescription:"`
    """
    from data.templates import checked_template
    from model_io.peft import import_prefix

    with taught_errors():
        try:
            text = checked_template(template.replace("\\n", "\n"), {"source"})
        except ValueError as error:
            raise InputError(f"--template {template!r}: {error}.") from None
        _new(output, lambda folder: import_prefix(peft, _skeleton(model), model, folder, text))
        typer.echo(f"{output}: a prefix for {model}")


def _new(output: Path, make: Callable[[Path], None]) -> None:
    from core.folders import finished_folder

    if output.exists():
        raise InputError(f"{output}: exists already. Give a new folder with --output.")
    with finished_folder(output) as folder:
        make(folder)


def _skeleton(model: Path) -> "PreTrainedModel":
    from model_io.language_model import load_skeleton

    return load_skeleton(model)
