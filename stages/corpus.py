"""Stage `corpus`: raw text -> four splits of sentence pairs."""

from data.splits import write_splits
from stages.framework import layout
from stages.framework.stage import stage


def main() -> None:
    with stage("corpus", layout.CORPUS) as this:
        this.summarise(write_splits(this.params.corpus, this.out))


if __name__ == "__main__":
    main()
