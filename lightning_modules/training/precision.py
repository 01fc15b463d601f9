"""Products of matrices in bfloat16, where a device has it."""

from functools import cache

import torch


@cache
def has_bf16(device: str) -> bool:
    """Whether a device of this type takes products in bf16 itself: torch emulates it elsewhere, slower than single precision."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return device == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))
