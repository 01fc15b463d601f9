"""What `gradus generate` does: prompts in, continuations out as soon as there is something to continue."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from core.config import nearest, validated
from core.errors import InputError
from gradus.inference.input_lines import Line
from lightning_modules.generation.generate import GenerateConfig, generate
from lightning_modules.generation.mixed_prefixes import MixedPrefixes
from lightning_modules.language_model.prompts import end_tokens, prompts
from lightning_modules.prefix_tuning.base_model import max_positions
from lightning_modules.prefix_tuning.prefix import BatchAdapter, NoPrefix
from model_io.language_model import load_language_model
from model_io.prefix import SavedPrefix, load_prefix

ONLY = ""  # the name of a prefix that lines do not name


class Prompt(NamedTuple):
    """A line as the model reads it: after which prefix, and its tokens; none for an empty line."""

    prefix: str
    tokens: list[int]


class ContinuedLines:
    """A language model ready to continue lines, with the template of the line's prefix around the line.

    Args:
        folder: of the language model.
        prefixes: by name, a folder each: lines are then `NAME<tab>text`. Under the name `ONLY` one for all lines; or none.
        options: those of `GenerateConfig`.
        warn: gets a message for every line that was changed when it was read, and at the end for outputs that `max_new_tokens` has cut.

    Raises:
        InputError: an option is wrong, the model has no end token, a prefix belongs to another base model, or leaves no room for text.
    """

    def __init__(
        self, folder: Path, prefixes: Mapping[str, Path], options: dict[str, Any], warn: Callable[[str], Any]
    ) -> None:
        self.folder, self.warn = folder, warn
        self.config = validated(GenerateConfig, options, "options")
        self.model, self.tokenizer = load_language_model(folder)
        self.ends = end_tokens(self.tokenizer, self.model, folder)
        self.model.requires_grad_(False)
        self.saved = {name: load_prefix(path, self.model, folder) for name, path in prefixes.items()} or {
            ONLY: SavedPrefix(NoPrefix(), "{source}", "none")
        }
        self.context = max_positions(self.model)
        self.virtual = {name: len(saved.adapter.prompt_embeddings()) for name, saved in self.saved.items()}
        longest_prefix = max(self.virtual.values())
        if self.context and longest_prefix + 1 + self.config.max_new_tokens > self.context:
            raise InputError(
                f"a prefix of {longest_prefix} virtual tokens and {self.config.max_new_tokens} new tokens leave no room for an input in the "
                f"{self.context} positions of {folder}: lower --max-new-tokens."
            )
        adapters = {name: saved.adapter for name, saved in self.saved.items()}
        self.mixed = None if ONLY in adapters else MixedPrefixes(self.model, adapters)

    def __call__(self, groups: Iterable[list[Line]]) -> Iterator[str]:
        """For each line its continuation. An empty line gives an empty line. A group of lines is continued together.

        Raises:
            InputError: a line names no prefix or an unknown one, or with the prefix and what may be written is longer than the
                model's context; the lines before it are written first.
        """
        self.outputs = self.cut = 0
        wrong: InputError | None = None
        for lines in groups:
            prompts: list[Prompt] = []
            for line in lines:
                if line.problem:
                    self.warn(f"standard input, line {line.number}: {line.problem}.")
                try:
                    prompts.append(self._read(line))
                except InputError as error:
                    wrong = error
                    break
            yield from self._generated(prompts, [line.number for line in lines])
            if wrong:
                break
        if self.cut:
            limit = self.config.max_new_tokens
            self.warn(
                f"{self.cut} of {self.outputs} outputs are cut after {limit} tokens (--max-new-tokens): no end token came before."
            )
        if wrong:
            raise wrong

    def _read(self, line: Line) -> Prompt:
        where, name, text = f"standard input, line {line.number}", ONLY, line.text
        if self.mixed and text.strip():
            name, tab, text = text.partition("\t")
            if not tab:
                raise InputError(
                    f"{where}: no tab: where prefixes have names, a line is its prefix's name, a tab, the text."
                )
            if name not in self.saved:
                raise InputError(f"{where}: unknown prefix '{name}' - {nearest(name, list(self.saved))}")
        if not (text := text.strip()):
            return Prompt(name, [])
        (tokens,) = prompts(self.tokenizer, self.saved[name].template, [text])
        if self.context:
            virtual, new = self.virtual[name], self.config.max_new_tokens
            if len(tokens) > (allowed := self.context - virtual - new):
                raise InputError(
                    f"{where}: {len(tokens)} tokens with its template, but {self.folder} takes {allowed}: its {self.context} positions "
                    f"less {virtual} virtual tokens and {new} new ones (--max-new-tokens)."
                )
        return Prompt(name, tokens)

    def _generated(self, prompts: list[Prompt], numbers: list[int]) -> Iterator[str]:
        not_empty = [i for i, prompt in enumerate(prompts) if prompt.tokens]
        if not not_empty:
            yield from [""] * len(prompts)
            return
        names = [prompts[i].prefix for i in not_empty]
        adapter: BatchAdapter = self.mixed.rows(names) if self.mixed else self.saved[ONLY].adapter
        outputs = generate(
            self.model,
            adapter,
            [prompts[i].tokens for i in not_empty],
            self.ends,
            self.config,
            batch=len(numbers),
            rows=[numbers[i] for i in not_empty],
        )
        self.outputs += len(outputs)
        self.cut += sum(len(tokens) == self.config.max_new_tokens for tokens in outputs)
        texts = dict(zip(not_empty, self.tokenizer.batch_decode(outputs, skip_special_tokens=True), strict=True))
        yield from (" ".join(texts.get(i, "").split()) for i in range(len(prompts)))


def named_prefixes(options: list[str]) -> dict[str, Path]:
    """The folders of `--prefix`: `NAME=DIR` each, or one `DIR` for all lines.

    Raises:
        InputError: a name is given twice, or several prefixes and not each with a name.
    """
    folders: dict[str, Path] = {}
    for text in options:
        name, equals, folder = text.partition("=")
        if not equals or "/" in name:  # a folder whose name has a `=` further down
            name, folder = ONLY, text
        if (not name and len(options) > 1) or name in folders:
            raise InputError(f"--prefix {text}: give each of several prefixes a name of its own: NAME=DIR.")
        folders[name] = Path(folder)
    return folders
