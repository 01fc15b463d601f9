"""Stage `tokenizer`: a vocabulary of the training text, both sides together. `python -m stages.tokenizer KIND`."""

from collections.abc import Iterator

from data.arrow import read_split
from data.tokenizer_training import save_tokenizer, train_tokenizer
from stages.framework import layout
from stages.framework.params import required
from stages.framework.stage import stage


def main() -> None:
    with stage("tokenizer", layout.TOKENIZER, "tokenizer", single=True) as this:
        rows = read_split(layout.CORPUS, "train")

        def texts() -> Iterator[str]:
            for batch in rows.iter(1000):
                yield from batch["source"]
                yield from batch["target"]

        tokenizer = train_tokenizer(texts(), required(this.params.tokenizer))
        save_tokenizer(tokenizer, this.out)
        this.summarise({"tokens": tokenizer.get_vocab_size()})


if __name__ == "__main__":
    main()
