"""bf16 only where the processor says that it has it."""

import re
from pathlib import Path

from lightning_modules.training.precision import has_bf16


def test_a_cpu_has_what_the_system_lists() -> None:
    flags = re.findall(r"\b(?:avx512_bf16|amx_bf16)\b", Path("/proc/cpuinfo").read_text())
    assert has_bf16("cpu") == bool(flags)
    assert not has_bf16("meta")
