"""What a process of this project sets for itself: quiet libraries, no telemetry, memory that is kept.

Stages, commands and benchmarks call `set_up_process` first. Importing a package changes nothing, with two exceptions:

- `flows` sets Prefect's variables. Prefect reads them when it is imported, and a served flow imports `flows` before any code of ours runs.
- `model_io.files` switches off cuDNN's attention. That needs torch, which commands load late so that `--help` is quick.
"""

import ctypes
import os
import sys
import warnings


def set_up_process() -> None:
    """Sets environment and allocator of this process and its children; what the user has set is kept."""
    # Nothing here reports to anybody; tokenizers run before any fork.
    for name, value in {
        "DO_NOT_TRACK": "true",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # read by transformers, too: loading and saving are short here
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "true",
        # Kernels that oneDNN compiles and keeps, one for each shape of a product in bf16, a thousand by default. Batch shapes keep changing
        # (Bahdanau's training in benchmarks.translation: 1,441 MB with 128, 1,560 without).
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
        # torch asks for large pages for tensors of 2 MB and more. With small ones, six updates of prefix-tuning (those of
        # benchmarks.prefix_tuning, shared) took two cores 16.9 s, with large ones 15.1. No effect where the system has no large pages.
        "THP_MEM_ALLOC_ENABLE": "1",
    }.items():
        os.environ.setdefault(name, value)
    # What reads its variable when it is imported is told, if it is there already.
    if datasets := sys.modules.get("datasets"):
        datasets.disable_progress_bars()
    if transformers := sys.modules.get("transformers"):
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="torch")
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Large tensors reuse what was freed. By default glibc gives each back to the system when freed, and filling the empty pages of the
    next takes a CPU a tenth of decoding and more. What a process needs at its peak stays about the same."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):  # musl has none
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
            libc.mallopt(parameter, 2**31 - 1)
