"""Stage `pretraining`: trains one translator. `python -m stages.pretraining ARCHITECTURE`."""

import pytorch_lightning as pl

from data.batching import translation_loader
from data.splits import read_split
from data.tokenizer import load_tokenizer
from lightning_modules.language_model import count_parameters
from lightning_modules.translation import Translation
from lightning_modules.translator import architecture
from stages import layout
from stages.fitting import fit, inputs_key
from stages.model_folders import save_translator
from stages.params import load_params
from stages.stage import item, stage


def main() -> None:
    name = item(load_params().pretraining.architectures)
    with stage(f"pretraining@{name}", layout.TRANSLATORS / name, f"pretraining.architectures.{name}") as this:
        this.read(layout.ENCODED, layout.TOKENIZER)
        settings, seed = this.params.pretraining.architectures[name], this.params.seed
        pl.seed_everything(seed, verbose=False)
        model = architecture(name)(settings, load_tokenizer(layout.TOKENIZER).get_vocab_size())
        budget = settings.training.tokens_per_batch
        train = translation_loader(read_split(layout.ENCODED, "train"), budget, seed=seed)
        validation = translation_loader(read_split(layout.ENCODED, "validation"), budget, shuffle=False)
        module = Translation(model, settings.training, len(train))
        key = inputs_key({"seed": seed, **settings.model_dump(mode="json")}, layout.ENCODED)
        learned = fit(this, module, train, validation, settings.training, key)
        save_translator(this.out, name, model, settings, layout.TOKENIZER)
        this.summarise({"parameters": count_parameters(model), **learned})


if __name__ == "__main__":
    main()
