"""The memory of methods by length and batch size, each cell by the estimate of one step."""

import time

from app.domain.resources.estimate import MapCell, MapRequest, MemoryMap
from worker.engine.estimation.estimate import fake_steps
from worker.engine.estimation.shapes import shapes
from worker.engine.estimation.unloaded import unloaded


def memory_map(request: MapRequest) -> MemoryMap:
    """Estimate each method at each length and batch size. Raises `RunFailed` with a sentence.

    At one length the peak is nearly linear in the batch size, but the pass in which it occurs changes; so each is
    computed.
    """
    began = time.perf_counter()
    cells = []
    for place, method in enumerate(request.methods):
        for length in request.lengths:
            built = unloaded(request.cell(method, length, 1))
            steps = fake_steps(built, request.cell(method, length, 1))
            for rows in request.batch_sizes:
                batch = shapes(request.cell(method, length, rows), None, built.base).heaviest[0]
                cells.append(MapCell(method=place, length=length, rows=rows, ledger=steps.step(batch)[0]))
    return MemoryMap(cells=cells, seconds=time.perf_counter() - began)
