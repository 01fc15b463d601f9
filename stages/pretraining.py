"""Stage `pretraining`: trains one translator. `python -m stages.pretraining ARCHITECTURE`."""

import pytorch_lightning as pl

from data.arrow import read_split
from data.errors import InputError
from data.loaders import translation_loader
from data.tokenizer import load_tokenizer
from lightning_modules.translation import Translation
from lightning_modules.translator import architecture
from stages import layout
from stages.fitting import fit
from stages.model_files import count_parameters
from stages.processes import share
from stages.stage import stage
from stages.translator_folder import save_translator


def main() -> None:
    with stage("pretraining", layout.TRANSLATORS, "pretraining.architectures", in_processes=True) as this:
        name = this.item
        settings, seed = this.params.pretraining.architectures[name], this.params.seed
        pl.seed_everything(seed, verbose=False)
        model = architecture(name)(settings, load_tokenizer(layout.TOKENIZER).get_vocab_size())
        longest, limit = this.params.encoding.max_pieces, model.longest_source
        if limit is not None and limit < longest:
            raise InputError(
                f"pretraining.architectures.{name} reads at most {limit} pieces, encoding.max_pieces lets {longest} through."
            )
        budget = settings.training.tokens_per_batch
        train = translation_loader(read_split(layout.ENCODED, "train"), budget, seed=seed, share=share())
        validation = translation_loader(read_split(layout.ENCODED, "validation"), budget, shuffle=False)
        module = Translation(model, settings.training, len(train))
        learned = fit(this, module, train, validation, settings.training)
        save_translator(this.out, name, model, settings, layout.TOKENIZER)
        this.summarise({"parameters": count_parameters(model), **learned})


if __name__ == "__main__":
    main()
