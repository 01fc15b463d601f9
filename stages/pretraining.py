"""Stage `pretraining`: trains one translator. `python -m stages.pretraining ARCHITECTURE`."""

import pytorch_lightning as pl

from core.errors import InputError
from core.processes import share
from data.arrow import read_split
from data.loaders import translation_loader
from data.tokenizer import load_tokenizer
from lightning_modules.translators.base import architecture
from lightning_modules.translators.module import TranslatorModule
from model_io.files import count_parameters
from model_io.translator import save_translator
from stages.framework import layout
from stages.framework.stage import stage
from stages.training.fit import fit


def main() -> None:
    with stage("pretraining", layout.TRANSLATORS, "pretraining.architectures", in_processes=True) as this:
        name = this.item
        settings, seed = this.params.pretraining.architectures[name], this.params.seed
        pl.seed_everything(seed, verbose=False)
        model = architecture(name)(settings, load_tokenizer(layout.TOKENIZER).get_vocab_size())
        longest, limit = this.params.encoding.max_length, model.longest_source
        if limit is not None and limit < longest:
            raise InputError(
                f"pretraining.architectures.{name} reads at most {limit} tokens, encoding.max_length lets {longest} through."
            )
        budget = settings.training.batch_tokens
        train = translation_loader(read_split(layout.ENCODED, "train"), budget, seed=seed, share=share())
        validation = translation_loader(read_split(layout.ENCODED, "validation"), budget, shuffle=False)
        module = TranslatorModule(model, settings.training, len(train))
        learned = fit(this, module, train, validation, settings.training)
        save_translator(this.out, name, model, settings, layout.TOKENIZER)
        this.summarise({"parameters": count_parameters(model), **learned})


if __name__ == "__main__":
    main()
