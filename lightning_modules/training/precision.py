"""Products of matrices in bfloat16, where a device has it."""

from functools import cache

import torch


@cache
def has_bf16(device: str) -> bool:
    """Whether a device of this type multiplies in bf16 itself; elsewhere torch emulates it, slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return device == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
