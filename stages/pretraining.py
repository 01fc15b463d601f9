"""Stage `pretraining`: trains one translator. `python -m stages.pretraining ARCHITECTURE`."""

import pytorch_lightning as pl

from core.errors import InputError
from core.processes import this_process
from data.arrow import read_split
from data.loaders import translation_loader
from data.tokenizer import load_tokenizer
from lightning_modules.translators.base import architecture
from lightning_modules.translators.module import TranslatorModule
from model_io.files import count_parameters
from model_io.translator import save_translator, start_from_translator
from stages.framework import layout
from stages.framework.params import required
from stages.framework.stage import stage
from stages.framework.warm_start import existing_init_folder
from stages.training.fit import fit


def main() -> None:
    with stage("pretraining", layout.TRANSLATORS, "pretraining.architectures", in_processes=True) as this:
        name = this.item
        config, seed = required(this.params.pretraining).architectures[name], this.params.seed
        pl.seed_everything(seed, verbose=False)
        model = architecture(name)(config, load_tokenizer(layout.TOKENIZER).get_vocab_size())
        if folder := existing_init_folder(this):
            start_from_translator(model, name, config, layout.TOKENIZER, folder)
        max_length, max_source_length = required(this.params.encoding).max_length, model.longest_source
        if max_source_length is not None and max_source_length < max_length:
            raise InputError(
                f"pretraining.architectures.{name} reads at most {max_source_length} tokens, encoding.max_length lets {max_length} through."
            )
        budget = config.training.batch_tokens
        train = translation_loader(read_split(layout.ENCODED, "train"), budget, seed=seed, process=this_process())
        validation = translation_loader(read_split(layout.ENCODED, "validation"), budget, shuffle=False)
        module = TranslatorModule(model, config.training, len(train))
        training = fit(this, module, train, validation, config.training)
        save_translator(this.out, name, model, config, layout.TOKENIZER)
        this.summarise({"parameters": count_parameters(model), **training})


if __name__ == "__main__":
    main()
