"""The stage `long_lag` on a short lag: what it writes, and that it goes on where it was."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_modules.lstm_1997.trials import Trials
from stages import long_lag
from stages.framework import layout
from stages.framework.stage import read_json

TASK = {"task": "3a", "settings": {"T": 10, "round": 20}, "trials": 2, "sequences": 120}


@pytest.fixture
def item(project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["long_lag"]["tasks"] = {"short": TASK}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setattr(sys, "argv", ["long_lag", "short"])
    return "short"


def outputs(item: str) -> tuple[dict[str, Any], Any, Any]:
    folder = layout.LONG_LAG / item
    summary = read_json(folder / layout.SUMMARY)
    return {k: v for k, v in summary.items() if "second" not in k}, *(
        read_json(folder / name) for name in (layout.TRIALS, layout.CURVE)
    )


def test_it_writes_each_trial_and_a_summary(item: str) -> None:
    long_lag.main()
    summary, trials, curve = outputs(item)
    assert summary["weights"] == 102
    assert [t["trial"] for t in trials] == [0, 1]
    assert summary["criteria"]["ST2"]["solved"] == sum(t["ST2"] is not None for t in trials)
    assert curve[-1]["sequences"] == 120
    assert not list(layout.WORK.glob("checkpoints/*"))


@pytest.mark.parametrize(
    ("changes", "published"),
    [
        ({}, [27_380, 39_850]),
        ({"settings": {"network": {"initial": 0.2}}}, [None, None]),
        ({"variant": "forget_gate"}, [None, None]),
    ],
)
def test_the_papers_number_stands_beside_the_papers_net_alone(
    item: str, changes: dict[str, Any], published: list[int | None]
) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["long_lag"]["tasks"][item] = {"task": "3a", "settings": {"round": 5}, "trials": 1, "sequences": 5} | changes
    Path("params.yaml").write_text(yaml.safe_dump(params))
    long_lag.main()
    assert [c["published"] for c in outputs(item)[0]["criteria"].values()] == published


def test_a_killed_run_ends_as_if_it_had_not_been(item: str, monkeypatch: pytest.MonkeyPatch) -> None:
    long_lag.main()
    expected = outputs(item)
    monkeypatch.setattr(long_lag, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    advance = Trials.advance

    def killed(self: Trials) -> None:
        if self.seen >= 60:
            raise ConnectionAbortedError("killed")
        advance(self)

    with monkeypatch.context() as patched, pytest.raises(ConnectionAbortedError):
        patched.setattr(Trials, "advance", killed)
        long_lag.main()
    rounds = []
    monkeypatch.setattr(Trials, "advance", lambda self: (rounds.append(self.seen), advance(self)))
    long_lag.main()
    assert rounds == [60, 80, 100]
    assert outputs(item) == expected


def test_the_environment_says_how_often_it_saves() -> None:
    program = (
        "from stages import long_lag; from stages.training import checkpoints; "
        "print([m.SECONDS_BETWEEN_CHECKPOINTS for m in (checkpoints, long_lag)])"
    )
    environment = {**os.environ, "GRADUS_CHECKPOINT_SECONDS": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.check_output([sys.executable, "-c", program], env=environment, text=True) == "[7.0, 7.0]\n"


def test_a_criterion_is_summed_up_over_the_trials_that_met_it() -> None:
    summary = long_lag._of_criterion([300, None, 500, 400], 450)
    assert summary == {
        "solved": 3, "solved_share": 0.75, "mean": 400, "median": 400, "least": 300, "most": 500, "published": 450
    }  # fmt: skip
    assert long_lag._of_criterion([None], None)["mean"] is None
