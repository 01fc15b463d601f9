"""Stages run in forks of one process that has dvc loaded; each tells how it ended."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.repro import Repro

GRAPH = """
stages:
  speaks:
    cmd: python -c "import os; print('heard', os.environ['WORD'])"
  fails:
    cmd: python -c "import sys; print('no file', file=sys.stderr); sys.exit(3)"
  lacks:
    cmd: python -c "pass"
    deps: [nowhere.txt]
  slow:
    cmd: python -c "import time; print('at work', flush=True); time.sleep(3); open('made', 'w').close()"
    outs: [made]
  sleeps:
    cmd: python -c "import time; print('asleep', flush=True); time.sleep(60)"
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], check=True)
    Path("dvc.yaml").write_text(GRAPH, encoding="utf-8")


def run_alone(stage: str, **variables: str) -> tuple[str, int]:
    """A stage's output and exit code."""

    async def main() -> tuple[str, int]:
        repro = Repro()
        process = await repro.start(stage, variables)
        output = (await process.stdout.read()).decode()
        code = await process.wait()
        repro.close()
        return output, code

    return asyncio.run(main())


def test_a_stage_has_its_variables_and_its_output_and_says_how_it_ended() -> None:
    speaks, fails, lacks = (run_alone(stage, WORD="hello") for stage in ("speaks", "fails", "lacks"))
    assert speaks == ("heard hello\n", 0)
    assert fails == ("no file\n", 1), "the stage has said why: dvc adds nothing"
    assert lacks == ("lacks: dvc: dependency 'nowhere.txt' does not exist\n", 1)


def test_stages_run_side_by_side_and_one_that_is_killed_harms_no_other() -> None:
    async def main() -> tuple[int, int, int, str]:
        repro = Repro()
        first, second = await asyncio.gather(repro.start("sleeps", {}), repro.start("sleeps", {}))
        # The second waits for the lock that dvc holds on a stage, or sleeps, too; both lead a session of their own.
        sessions = len({os.getsid(first.pid), os.getsid(second.pid), os.getsid(0)})
        assert await first.stdout.readline() == b"asleep\n" or await second.stdout.readline() == b"asleep\n"
        os.killpg(first.pid, signal.SIGKILL)
        first_code = await first.wait()
        assert psutil.pid_exists(second.pid)
        os.killpg(second.pid, signal.SIGKILL)
        second_code = await second.wait()
        third = await repro.start("speaks", {"WORD": "still"})
        third_output = (await third.stdout.read()).decode()
        await third.wait()
        repro.close()
        return sessions, first_code, second_code, third_output

    assert asyncio.run(main()) == (3, -signal.SIGKILL, -signal.SIGKILL, "heard still\n")


def test_a_server_that_was_killed_is_an_error_that_names_it() -> None:
    async def main() -> None:
        repro = Repro()
        await (await repro.start("speaks", {"WORD": "a"})).wait()
        assert repro._server
        repro._server.kill()
        repro._server.wait()
        with pytest.raises(RuntimeError, match=r"-m flows\.repro (has ended|cannot be asked)"):
            await repro.start("speaks", {"WORD": "b"})
        repro.close()

    asyncio.run(main())


def test_a_stage_that_another_dvc_runs_is_waited_for_and_then_found_up_to_date() -> None:
    async def main() -> list[tuple[str, int]]:
        first_flow, second_flow = Repro(), Repro()
        first = await first_flow.start("slow", {})
        assert await first.stdout.readline() == b"at work\n"
        second = await second_flow.start("slow", {})
        ended = [((await process.stdout.read()).decode(), await process.wait()) for process in (first, second)]
        first_flow.close()
        second_flow.close()
        return ended

    (_, first_code), (second_output, second_code) = asyncio.run(main())
    assert (first_code, second_code) == (0, 0)
    assert second_output.startswith("slow: waits: '")
    assert "(PID " in second_output
    assert "dvc repro slow" in second_output
    assert "at work" not in second_output


def test_a_lock_of_a_process_whose_number_another_has_by_now_holds_up_nothing() -> None:
    made = str(Path("made").resolve())
    note = {
        "pid": os.getpid(),
        "cmd": "dvc repro slow",
    }  # this process is alive, but started after the note was written
    lock = Path(".dvc/tmp/rwlock")
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"write": {made: note}, "read": {}}), encoding="utf-8")
    os.utime(lock, (psutil.Process().create_time() - 3600,) * 2)

    assert run_alone("slow") == ("at work\n", 0)


def test_notes_that_a_killed_dvc_had_just_begun_to_write_hold_up_nothing() -> None:
    Path(".dvc/tmp").mkdir(exist_ok=True)
    Path(".dvc/tmp/rwlock").touch()
    assert run_alone("slow") == ("at work\n", 0)


def test_a_damaged_lock_file_is_named_by_dvc() -> None:
    Path(".dvc/tmp").mkdir(exist_ok=True)
    Path(".dvc/tmp/rwlock").write_text("{", encoding="utf-8")

    output, code = run_alone("slow")
    assert code == 1
    assert "slow: dvc: Unable to read RWLock-file" in output
