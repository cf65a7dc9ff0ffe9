"""The environment of child processes: the worker's own without its secrets, plus settings for the ML libraries."""

import os

from app.settings import Settings

ML_ENVIRONMENT: dict[str, str] = {
    # Blocks of 64 KiB and more are mapped and unmapped one by one, so that resident memory follows live tensors, and
    # freed activations do not stay in the heap. glibc only; other allocators ignore it.
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    # OpenMP threads that spin while they wait are very slow as soon as other processes want their cores: at a load of 5
    # on 2 cores a step took 15 times as long. Sleeping costs nothing measurable on an idle machine.
    "OMP_WAIT_POLICY": "passive",
    # oneDNN caches compiled kernels, half a MiB each and one for every shape of a batch: with the default of 1,024
    # a LoRA run on texts of mixed lengths held 150 MiB of code. 32 are as fast. torch's layer above it (ideep) has a
    # cache of its own.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "LRU_CACHE_CAPACITY": "32",
    # The tokenizer's own threads would compete with torch's, and warn on every fork.
    "TOKENIZERS_PARALLELISM": "false",
    # cuBLAS is only deterministic with a fixed workspace (docs.pytorch.org/docs/stable/notes/randomness.html).
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Segments that grow instead of new ones of other sizes: less memory is lost to fragmentation. torch before 2.9 has
    # the second name only.
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    # torch.compile compiles in the process itself: processes of its pool would have no supervisor.
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    # transformers would download and execute kernels from the hub. Progress bars are of no use in a log.
    # See also `worker.engine.models.load.harmless`.
    "USE_HUB_KERNELS": "NO",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Reports are whole lines; library output goes to stderr at once and keeps its place in the log.
    "PYTHONUNBUFFERED": "1",
}
"""Set in every process that imports the ML libraries."""

SECRETS = frozenset(f"VEZNA_{name.upper()}{ending}" for name in Settings.secrets() for ending in ("", "_FILE"))
"""A child needs neither the database nor the broker. The hub token is passed as `HF_TOKEN`."""
SECRET_PREFIXES = ("AWS_", "FSSPEC_")
"""Credentials of the files store, which only the worker itself uses."""


def child_environment() -> dict[str, str]:
    """The environment of a child process; a token for gated models (`HF_TOKEN`) stays."""
    inherited = {k: v for k, v in os.environ.items() if k not in SECRETS and not k.startswith(SECRET_PREFIXES)}
    return inherited | ML_ENVIRONMENT
