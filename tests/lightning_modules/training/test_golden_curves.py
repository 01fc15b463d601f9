"""Ten updates of every architecture, as they have always been: a change of numbers is a decision, not an accident.

A second run in the same process is the same to the last bit. The stored curve may differ by TOLERANCE: tests run on one thread
whatever OMP_NUM_THREADS says (conftest.py), but kernels of other processors and versions of torch sum in other orders, and ten
updates let float32's last digit (6e-8) grow.

`GRADUS_WRITE_GOLDEN=1 python -m pytest tests/lightning_modules/training/test_golden_curves.py` writes them again.
"""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.long_lag import side_by_side, task
from lightning_modules.lstm_1997.trials import Trials
from lightning_modules.translators.base import Translator
from lightning_modules.translators.module import cross_entropy

GOLDEN = Path(__file__).with_name("golden_curves.json")
UPDATES = 10
TOLERANCE = 2e-5  # relative
LONG_LAG = {  # task, its settings, variant
    "memory_blocks_sequence": ("6a", {}, "paper"),
    "memory_blocks_step": ("1", {}, "paper"),
    "memory_blocks_late": ("2a", {"p": 10}, "paper"),
    "forget_gate_lstm": ("6a", {}, "forget_gate"),
}


def curve(model: Translator, batch: dict[str, Tensor]) -> list[float]:
    """Mean losses of updates with dropout and label smoothing, from fixed seeds."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.01)
    losses = []
    for _ in range(UPDATES):
        loss, tokens = cross_entropy(model, batch, 0.1)
        losses.append(float(loss) / tokens)
        optimizer.zero_grad()
        (loss / tokens).backward()
        optimizer.step()
    return losses


def long_lag_curve(name: str) -> list[float]:
    """Squared errors, summed over three trials, of the sequence before each on-line update."""
    number, settings, variant = LONG_LAG[name]
    chosen = task(number, settings)
    nets = Trials(chosen, 3, seed=1, variant=variant).nets
    if chosen.network.late_blocks:
        nets.present.fill_(1)
    sequences = side_by_side([chosen.training(1, trial, 0)[:UPDATES] for trial in range(3)])
    errors = nets.learn(sequences, chosen.learning_rate, chosen.update) - sequences.targets
    inside = torch.arange(errors.shape[2]) < sequences.lengths[..., None]
    if errors.shape[2] > 1:
        errors = errors * inside[..., None]
    return errors.square().sum((0, 2, 3)).tolist()


def check(name: str, losses: list[float]) -> None:
    """Compares with the stored curve, or stores it."""
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("GRADUS_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(golden | {name: [round(loss, 6) for loss in losses]}, indent=1) + "\n")
        return
    assert losses == pytest.approx(golden[name], rel=TOLERANCE)


def test_ten_updates_give_the_golden_losses(
    translator: Translator, batch: dict[str, Tensor], request: pytest.FixtureRequest
) -> None:
    again = copy.deepcopy(translator)
    losses = curve(translator, batch)
    assert curve(again, batch) == losses
    check(request.node.callspec.params["translator"], losses)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", LONG_LAG)
def test_ten_on_line_updates_give_the_golden_errors(name: str) -> None:
    losses = long_lag_curve(name)
    assert long_lag_curve(name) == losses
    check(name, losses)
