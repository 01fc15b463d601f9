"""Stage `corpus`: raw text -> four splits of sentence pairs. `python -m stages.corpus NAME`."""

from data.splits import write_splits
from stages.framework import layout
from stages.framework.params import required
from stages.framework.stage import stage


def main() -> None:
    with stage("corpus", layout.CORPUS, "corpus", single=True) as this:
        this.summarise(write_splits(required(this.params.corpus), this.out))


if __name__ == "__main__":
    main()
