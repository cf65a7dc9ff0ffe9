"""The environment that a trainer process needs. Imports nothing, so that the supervisor can read it without torch."""

TRAINER_ENV: dict[str, str] = {
    # Blocks of 64 KiB and more are mapped and unmapped one by one, so that resident memory follows live tensors and a
    # freed activation does not stay in the heap as if it were needed. glibc only; other allocators ignore it.
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    # OpenMP threads that wait for each other in a spin are ruinous as soon as anything else wants their cores: with a
    # load of 5 on 2 cores a step took 15 times as long. Sleeping costs nothing measurable on an idle machine.
    "OMP_WAIT_POLICY": "passive",
    # oneDNN keeps the kernels that it has compiled, half a MiB each and one for every shape of a batch: with its usual
    # 1,024 of them a LoRA run on texts of mixed lengths held 150 MiB of code. 32 are as fast. torch's layer above it
    # (ideep) keeps as many again, by a name of its own.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "LRU_CACHE_CAPACITY": "32",
    # The tokenizer's own threads would compete with torch's, and warn on every fork.
    "TOKENIZERS_PARALLELISM": "false",
    # cuBLAS is only deterministic with a fixed workspace (docs.pytorch.org/docs/stable/notes/randomness.html).
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # transformers would fetch faster kernels from the hub, which are programs, and run them. And bars of progress are
    # of no use in a log.
    "USE_HUB_KERNELS": "NO",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Reports are whole lines; what libraries print goes to stderr at once and keeps its place in the log.
    "PYTHONUNBUFFERED": "1",
}
"""Set on top of the worker's own environment when a trainer is started."""
