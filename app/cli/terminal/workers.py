"""Workers, as a terminal shows them."""

from app.services.workers.workers import WorkerView
from app.words.format import GIB, decimal
from app.words.i18n import gettext as _


def gpu_words(worker: WorkerView) -> str:
    """What has each GPU of a worker, and its free memory: `; NVIDIA L4: run 7, 1.9 of 22.5 GiB free`."""
    words = ""
    for gpu in (gpu for gpu in worker.devices if not gpu.problem):
        use = _("free") if gpu.run_id is None else _("run %(id)s", id=gpu.run_id)
        words += f"; {gpu.name}: {use}"
        if gpu.free_bytes is not None:
            sizes = {"free": decimal(gpu.free_bytes / GIB), "memory": decimal(gpu.memory_bytes / GIB)}
            words += ", " + _("%(free)s of %(memory)s GiB free", **sizes)
    return words
