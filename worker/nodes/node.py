"""What a feature adds to a worker, in its module `worker.features.NAME.node` (`app.feature`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event

from app import feature

Task = Callable[[int], None]
"""Takes the id of a row; it may be delivered any number of times."""
Thread = Callable[[Event], None]
"""Takes the event that is set once the node stops."""


@dataclass(frozen=True, eq=False)
class Node:
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """Celery tasks, by their names in `app.broker.queue`."""
    repeated: Mapping[str, Thread] = field(default_factory=dict)
    """What a control node does at the interval of its sweep, each in a thread of its own, by the names of the threads.
    """
    inference: Thread | None = None
    """Runs until the node stops, in a thread of a node that answers requests for inference."""


def nodes() -> list[Node]:
    """What the active features add to a worker."""
    return [module.NODE for module in feature.modules("node", package="worker")]
