"""One file per stage of dvc.yaml: `python -m stages.NAME` reads inputs, calls `data` and `lightning_modules`, writes outputs."""

import ctypes
import os
import sys
import warnings

# Nothing here reports to anybody; tokenizers run before any fork.
for _variable, _value in {
    "DO_NOT_TRACK": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "true",
    # Kernels that oneDNN compiles and keeps, one for each shape of a product in bf16, a thousand by default. Batches have ever new shapes
    # (Bahdanau's training in benchmarks.translation: 1,441 MB with 128, 1,560 without).
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    # torch asks for large pages for tensors of 2 MB and more. With small ones, six updates of prefix-tuning (those of
    # benchmarks.prefix_tuning, shared) took two cores 16.9 s, with large ones 15.1. No effect where the system has no large pages.
    "THP_MEM_ALLOC_ENABLE": "1",
}.items():
    os.environ.setdefault(_variable, _value)
warnings.filterwarnings("ignore", module="pytorch_lightning")
warnings.filterwarnings("ignore", module="torch")


def _keep_freed_memory() -> None:
    """Large tensors reuse what was freed. As glibc is set, each goes back to the system when freed, and filling the empty pages of the
    next takes a CPU a tenth of decoding and more. What a process needs at its peak stays about the same."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):  # musl has none
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
            libc.mallopt(parameter, 2**31 - 1)


_keep_freed_memory()
