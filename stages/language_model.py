"""Stage `language_model`: pretrains a small causal language model on the corpus. `python -m stages.language_model NAME`."""

import pytorch_lightning as pl

from core.processes import this_process
from data.arrow import read_split
from data.loaders import causal_loader
from data.tokenizer import load_tokenizer
from lightning_modules.language_model.config import build_language_model
from lightning_modules.language_model.module import LanguageModelModule
from model_io.files import copy_tokenizer, count_parameters
from model_io.language_model import start_from_language_model
from stages.framework import layout
from stages.framework.stage import stage
from stages.framework.warm_start import existing_init_folder
from stages.training.fit import fit


def main() -> None:
    with stage("language_model", layout.LANGUAGE_MODELS, "language_models", in_processes=True) as this:
        config, seed = this.params.language_models[this.item], this.params.seed
        pl.seed_everything(seed, verbose=False)
        tokenizer = load_tokenizer(layout.TOKENIZER)
        model = build_language_model(config, tokenizer.get_vocab_size())
        if folder := existing_init_folder(this):
            start_from_language_model(model, tokenizer, folder)
        budget = config.training.batch_tokens
        train = causal_loader(read_split(layout.ENCODED, "train"), budget, seed=seed, process=this_process())
        validation = causal_loader(read_split(layout.ENCODED, "validation"), budget, shuffle=False)
        module = LanguageModelModule(model, config.training, len(train))
        training = fit(this, module, train, validation, config.training)
        model.save_pretrained(this.out)
        copy_tokenizer(layout.TOKENIZER, this.out)
        this.summarise({"parameters": count_parameters(model), **training})


if __name__ == "__main__":
    main()
