"""The tasks of "Long Short-Term Memory" (Hochreiter & Schmidhuber 1997, section 5, tables 10 and 11).

A task knows how its sequences are made, the network that the paper gives it, learning rate, biases, and when it counts as
solved. `task("2c", {"q": 50, "p": 50})` makes one; what is left out is as in the paper. The keys `network` and `criteria`
change single values of the paper's: `task("3a", {"network": {"initial": 0.2, "input_gate_bias": [-1, -2, -3]}, "criteria":
{"ST2": {"mean_error": 0.02}}})`; what can be changed is in `NetworkConfig` and `CriterionConfig` (`task.py`). Everything
random is a function of (seed, trial, round), so a trial sees the same sequences whatever runs beside it.

Where the paper can be read in two ways:

- Tasks 4, 5: the first pair's marker is -1 even when that pair is chosen, so nothing shows that it is; it counts as 0
  (task 5: as 1), whichever of the two it is.
- Task 2c writes a_i with i <= q; i <= p is meant (there are p distractors).
- "Average training error" is the mean absolute output error of the 2000 most recent sequences.
- "On-line": A.1 has a contribution to the update at each time step, and a total of them. Tasks 1, 2a and 2b, which alone have
  errors at every step, change weights at every step (`update: step`): with one update a sequence (`update: sequence`)
  hardly any trial of 2a or 1 succeeds. For the other tasks the two are the same.
- Task 1: the legal next symbols are "always the most active ones": all of them above all others; `legal: one` asks that the
  most active one is legal.
- g is in [-2, 2] and h in [-1, 1] in the text, the reverse in table 10's caption; task 1 offers both (`squashing`).
- Task 2a adds its cell when the error "has stopped decreasing": `lightning_modules/lstm_1997/trials.py` says when that is.
- Test sets are drawn once for each trial.
- How often the paper looks whether a task is solved is not said: here after every `round` sequences.
"""

from collections.abc import Mapping
from typing import Any

from core.config import nearest, validated
from core.errors import InputError
from data.long_lag.reber import EmbeddedReber
from data.long_lag.symbols import LongDistractors, RandomMiddle, TemporalOrder, TemporalOrder3, TwoSequences
from data.long_lag.task import ADDITIONAL, RECENT, TEST_PART, Criterion, Network, Sequences, Task, at_end, side_by_side
from data.long_lag.values import Adding, Bengio, Multiplication, NoisySignal, NoisyTargets

__all__ = [
    "ADDITIONAL", "RECENT", "TASKS", "TEST_PART", "Criterion", "Network", "Sequences", "Task", "at_end", "side_by_side", "task",
]  # fmt: skip

TASKS: dict[str, type[Task]] = {
    "1": EmbeddedReber, "2a": TwoSequences, "2b": RandomMiddle, "2c": LongDistractors, "3a": Bengio, "3b": NoisySignal,
    "3c": NoisyTargets, "4": Adding, "5": Multiplication, "6a": TemporalOrder, "6b": TemporalOrder3,
}  # fmt: skip


def task(name: str, settings: Mapping[str, Any] | None = None, where: str = "long_lag") -> Task:
    """The task of that name in the paper. Raises InputError on an unknown name or a wrong setting; `where` says who asked."""
    if name not in TASKS:
        raise InputError(f"{where}: unknown task '{name}' - {nearest(name, list(TASKS))}")
    chosen = validated(TASKS[name], settings, f"{where}.{name}")
    try:
        _ = chosen.network, chosen.criteria
    except InputError as error:
        raise InputError(f"{where}.{name}.{error}") from None
    return chosen
