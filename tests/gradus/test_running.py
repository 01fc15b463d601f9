"""What the command `run` says when it is ended from outside."""

import signal

import pytest
from prefect.exceptions import TerminationSignal

import flows.pipeline
from gradus.running import run


def test_a_termination_signal_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ended(return_state: bool) -> None:  # what Prefect's handler of the signal does to a flow
        raise TerminationSignal(signal=signal.SIGTERM)

    monkeypatch.setattr(flows.pipeline, "pipeline", ended)
    assert run("pipeline") == 128 + signal.SIGTERM
    assert "pipeline was ended (signal 15). The same command goes on from there." in capsys.readouterr().err
