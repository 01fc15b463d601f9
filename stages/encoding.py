"""Stage `encoding`: sentence pairs -> token ids."""

from data.encoding import write_encoded
from data.tokenizer import load_tokenizer
from stages.framework import layout
from stages.framework.stage import stage


def main() -> None:
    with stage("encoding", layout.ENCODED) as this:
        this.summarise(write_encoded(layout.CORPUS, load_tokenizer(layout.TOKENIZER), this.params.encoding, this.out))


if __name__ == "__main__":
    main()
