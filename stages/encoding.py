"""Stage `encoding`: sentence pairs -> token ids. `python -m stages.encoding KIND`, with the kind of its tokenizer."""

from data.encoding import write_encoded
from data.tokenizer import load_tokenizer
from stages.framework import layout
from stages.framework.params import required
from stages.framework.stage import stage


def main() -> None:
    with stage("encoding", layout.ENCODED, "tokenizer", single=True) as this:
        config = required(this.params.encoding)
        this.summarise(write_encoded(layout.CORPUS, load_tokenizer(layout.TOKENIZER), config, this.out))


if __name__ == "__main__":
    main()
