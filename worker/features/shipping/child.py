"""The export process, for one export: `python -P -m worker.features.shipping.child`.

    stdin    `app.domain.models.exports.ExportJob`
    stdout   progress from time to time, {"share": 0.4, "rows": 0}; at the end {"files": [`ExportedFile`, …],
             "scores": `ExportScores`} or {"error": a sentence}
    stderr   library output, and tracebacks

It has a low priority and ends with its parent. Without a memory limit, since a merge needs the whole model in float32;
the kernel ends it before the worker.
"""

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.domain.models.exports import ExportJob
from app.imports import import_large
from worker.children.child import answer_channel, die_with_parent, import_engine, yield_processor
from worker.ingest.child import ProgressWriter
from worker.machine import disk

OUT_OF_MEMORY_SCORE = 1000
"""The kernel ends this process first (man 5 proc, oom_score_adj)."""


def answer(line: str, progress: ProgressWriter) -> dict[str, Any]:
    failures, output = None, Path()
    try:
        failures = import_large("worker.engine.loop.failures")  # after stdout is reserved for the answer
        engine = import_engine("worker.features.shipping.exporting.export")
        job = ExportJob.model_validate_json(line)
        output = Path(job.job.output)
        files, scores = engine.export(job, lambda share: progress(share, 0))
        return {"files": [file.model_dump() for file in files], "scores": scores.model_dump()}
    except Exception as error:
        traceback.print_exc()
        if disk.is_full(error):
            return {"error": disk.full(output, remedy=disk.EXPORT_AGAIN).message}
        if failures is None:
            return {"error": f"{type(error).__name__}: {error}"}
        return {"error": failures.failure(error).message}


def main() -> None:
    die_with_parent()
    yield_processor()
    with suppress(OSError):  # not Linux, or not allowed
        Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE))
    with answer_channel() as answers:
        progress = ProgressWriter(answers)
        progress.write(answer(sys.stdin.readline(), progress))
    sys.stderr.flush()
    os._exit(0)  # the shutdown of the ML libraries takes time, and all output is flushed


if __name__ == "__main__":
    main()
