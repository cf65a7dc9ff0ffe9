"""Workers, as a terminal shows them."""

from app.services.workers import WorkerView


def gpu_words(worker: WorkerView) -> str:
    """What has each GPU of a worker, and its free memory: `; NVIDIA L4: run 7, 1.9 of 22.5 GiB free`."""
    words = ""
    for gpu in (gpu for gpu in worker.devices if not gpu.problem):
        words += f"; {gpu.name}: {'free' if gpu.run_id is None else f'run {gpu.run_id}'}"
        if gpu.free_bytes is not None:
            words += f", {gpu.free_bytes / 2**30:.1f} of {gpu.memory_bytes / 2**30:.1f} GiB free"
    return words
