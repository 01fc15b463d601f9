"""Stages run in forks of one process that has dvc loaded; each tells how it ended."""

import asyncio
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
  sleeps:
    cmd: python -c "import time; print('asleep', flush=True); time.sleep(60)"
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], check=True)
    Path("dvc.yaml").write_text(GRAPH, encoding="utf-8")


def test_a_stage_has_its_variables_and_its_output_and_says_how_it_ended() -> None:
    async def main() -> list[tuple[str, int]]:
        repro = Repro()
        try:
            ended = []
            for stage in ("speaks", "fails", "lacks"):
                process = await repro.start(stage, {"WORD": "hello"})
                output = (await process.stdout.read()).decode()
                ended.append((output, await process.wait()))
            return ended
        finally:
            repro.close()

    speaks, fails, lacks = asyncio.run(main())
    assert speaks == ("heard hello\n", 0)
    assert fails == ("no file\n", 1), "the stage has said why: dvc adds nothing"
    assert lacks == ("lacks: dvc: dependency 'nowhere.txt' does not exist\n", 1)


def test_stages_run_side_by_side_and_one_that_is_killed_harms_no_other() -> None:
    async def main() -> tuple[int, int, int, int]:
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
        third_code = await third.wait()
        repro.close()
        return sessions, first_code, second_code, third_code

    assert asyncio.run(main()) == (3, -signal.SIGKILL, -signal.SIGKILL, 0)


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
