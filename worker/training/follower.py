"""A process of a run on several devices, other than rank 0 (`worker.training.followers`).

stdin    its position (`worker.training.protocol.Position`, JSON on one line)
stdout   a report (`app.domain.runs.job.FailureReport`) if its part fails, and nothing else
stderr   that of rank 0
exit     0 when its part is done or its failure is reported, 75 after stopping together with the others
"""

import os
import signal
import sys

from worker.children.child import die_with_parent, import_engine
from worker.training.protocol import Channel, Position


def main() -> int:
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # rank 0 is told, and all stop at the same batch
    channel = Channel()
    position = Position.model_validate_json(sys.stdin.readline())
    # late: the imports take seconds, and library output must not be parsed as reports
    status: int = import_engine("worker.training.execution").follow(position, channel)
    return status


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)
