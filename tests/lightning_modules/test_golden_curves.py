"""Ten updates of every translator, as they have always been: a change of numbers is a decision, not an accident.

`GRADUS_WRITE_GOLDEN=1 python -m pytest tests/lightning_modules/test_golden_curves.py` writes the curves anew.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_modules.translation import cross_entropy
from lightning_modules.translator import Translator

GOLDEN = Path(__file__).with_name("golden_curves.json")
UPDATES = 10


def curve(model: Translator, batch: dict[str, Tensor]) -> list[float]:
    """Mean losses of updates with dropout and label smoothing, from fixed seeds."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.01)
    losses = []
    for _ in range(UPDATES):
        loss, pieces = cross_entropy(model, batch, 0.1)
        losses.append(float(loss) / pieces)
        optimizer.zero_grad()
        (loss / pieces).backward()
        optimizer.step()
    return losses


def test_ten_updates_give_the_golden_losses(
    translator: Translator, batch: dict[str, Tensor], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["translator"]
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    losses = curve(translator, batch)
    if os.environ.get("GRADUS_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(golden | {name: [round(loss, 6) for loss in losses]}, indent=1) + "\n")
        return
    # Kernels of other processors may round the last digits otherwise.
    assert losses == pytest.approx(golden[name], rel=2e-5)
    assert losses[-1] < losses[0]
