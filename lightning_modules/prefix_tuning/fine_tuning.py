"""What prefix-tuning is compared with (Li & Liang 2021, 5.2): all of the base is trained, or its uppermost layers (FT-TOP2)."""

from typing import Any

from transformers import PreTrainedModel

from lightning_modules.language_model.top_layers import train_only_top_layers
from lightning_modules.prefix_tuning.module import target_loss
from lightning_modules.prefix_tuning.prefix import NoPrefix
from lightning_modules.shared_prompt.examples import ExampleBatch
from lightning_modules.training.config import TrainingConfig
from lightning_modules.training.likelihood import MaximumLikelihoodModule


class FineTuningModule(MaximumLikelihoodModule):
    """Cross entropy of the target only, for the base's own weights. Checkpoints hold those that are trained."""

    model: PreTrainedModel

    def __init__(
        self,
        base: PreTrainedModel,
        config: TrainingConfig,
        steps_per_epoch: int,
        top_layers: int | None = None,
    ) -> None:
        """Only the `top_layers` uppermost layers are trained; None: all weights."""
        hidden_size = base.config.get_text_config().hidden_size
        super().__init__(base.requires_grad_(True).train(), config, steps_per_epoch, hidden_size)
        self.strict_loading = False
        self.adapter = NoPrefix()
        if top_layers is not None:
            train_only_top_layers(base, top_layers, output=False)

    def loss(self, batch: ExampleBatch) -> tuple[Any, int]:
        return target_loss(self.model, self.adapter, batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out what is frozen: it comes from the base's folder again."""
        for name, p in self.named_parameters(remove_duplicate=False):
            if not p.requires_grad:
                checkpoint["state_dict"].pop(name, None)
