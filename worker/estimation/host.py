"""Resource estimates, previews and memory maps, computed in a child process (`worker.estimation.child`).

One process is kept warm. If it hangs, dies or sends an invalid answer, the caller gets a sentence, and the next request
a new process.
"""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from app import feature
from app.domain.data.baselines import Baseline
from app.domain.data.previews import Preview
from app.domain.errors import NotFound, VeznaError
from app.domain.messages import Message, _
from app.domain.models.hub_access import HubAccess
from app.domain.resources.computations import Computation
from app.domain.resources.estimate import MapRequest, MemoryMap, ResourceEstimate
from app.services.resources.estimates import KINDS, Request
from app.store.files.files import Files
from worker.children.host import Child, ChildError, ChildInterrupted

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "worker.estimation.child")
"""`-P`: do not import from the current directory."""
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": ""}
"""Estimates for a GPU need no GPU, and must not take its memory from a run."""
LONG = ("map", "baseline", "computation")
ESTIMATE_SECONDS = 60.0
LONG_SECONDS = 300.0
"""Deadlines: of an estimate or a preview, and of the `LONG` kinds."""
START_SECONDS = 120.0
"""Added for a fresh process, which imports the ML libraries."""
BUSY = 10.0
"""While runs use all cores, the process gets about a tenth of one (`worker.children.child.BACKGROUND_NICENESS`), so its
deadlines are extended at most to this multiple."""
HEARTBEAT_SECONDS = 10.0


class NoAnswer(VeznaError):
    """There is no estimate; the message says why."""

    def __init__(self, message: str | Message, *, internal: bool = False) -> None:
        """`internal`: the error is Vezna's, and says nothing about the request."""
        super().__init__(message)
        self.internal = internal


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    run: ResourceEstimate | None = None
    preview: Preview | None = None
    map: MemoryMap | None = None
    baseline: Baseline | None = None
    computation: dict[str, Any] | None = None
    error: str | None = None
    internal: bool = False


class Estimator:
    """Keeps one estimation process, and a local copy of the rows of the last request's dataset."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        estimate_seconds: float = ESTIMATE_SECONDS,
        long_seconds: float = LONG_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._command = tuple(command)
        self._estimate_seconds, self._long_seconds = estimate_seconds, long_seconds
        self._start_seconds = start_seconds
        self._child: Child | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._dataset: tuple[str, Path] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the warm process, if it waits for a request."""
        return self._child.pid if self._child and self._child.waiting else None

    def estimate(
        self,
        request: Request,
        files: Files,
        hub: HubAccess | None = None,
        heartbeat: Callable[[], object] = lambda: None,
    ) -> BaseModel:
        """The answer to a request whose location is one of this machine; `hub` opens its base model, and `heartbeat` is
        called every `HEARTBEAT_SECONDS`. Raises NoAnswer, ChildInterrupted."""
        body = request.model_dump(mode="json")
        try:
            kind = "computation" if isinstance(request, Computation) else KINDS[type(request)]
            seconds = self._long_seconds if kind in LONG else self._estimate_seconds
            with ExitStack() as kept:
                beside = self._beside(request, files, kept) | {"hub": hub.model_dump() if hub else None}
                result = getattr(self._ask({kind: body} | beside, seconds, heartbeat), kind)
            if result is None:
                raise ChildError(_("The estimation process answered another question. Try again."))
            answer: BaseModel = self._read(request, result)
        except ChildInterrupted:
            self.end()
            raise
        except ChildError as error:
            self.end()
            raise NoAnswer(error.message, internal=True) from error
        return answer

    def end(self) -> None:
        child, self._child, self._dataset = self._child, None, None
        if child is not None:
            child.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _ask(self, request: dict[str, object], seconds: float, heartbeat: Callable[[], object]) -> _Answer:
        """Send one request and return its answer. Raises NoAnswer with the error that the child answers, and ChildError
        for anything else."""
        if self._child is None or not self._child.waiting:
            if self._child is not None:
                self._child.close()
                self._child = None
            self._child = Child("estimation", self._command, environment=ENVIRONMENT)
            seconds += self._start_seconds
        self._child.send(json.dumps(request).encode(), seconds)
        line = self._child.receive(seconds, busy=BUSY, meanwhile=heartbeat, every=HEARTBEAT_SECONDS)
        try:
            answer = _Answer.model_validate_json(line)
        except ValidationError as error:
            log.error("unreadable estimate", answer=line[:200].decode(errors="replace"), errors=error.error_count())
            raise self._child.unreadable() from error
        if answer.error is not None:
            raise NoAnswer(Message(answer.error), internal=answer.internal)
        return answer

    def _read(self, request: Request, result: Any) -> BaseModel:
        """The answer as a model. Raises ChildError."""
        if isinstance(request, Computation):
            try:
                result = feature.module_of(request.feature, "computations").ANSWERS.validate_python(result)
            except ValidationError as error:
                log.error("unreadable answer", errors=error.error_count())
                raise ChildError(_("The estimation process answered another question. Try again.")) from error
        found: BaseModel = result
        return found

    def _beside(self, request: Request, files: Files, kept: ExitStack) -> dict[str, object]:
        """Paths of what a request reads, local while `kept` is open. Raises NoAnswer."""
        if isinstance(request, Computation):
            folder = Path(kept.enter_context(TemporaryDirectory(prefix="vezna-files-", ignore_cleanup_errors=True)))
            local = {field: folder / f"{field}{Path(name).suffix}" for field, name in request.files.items()}
            for field, name in request.files.items():
                try:
                    files.get(name, local[field])
                except (NotFound, OSError) as error:
                    text = _("The weights of a run cannot be read: %(why)s", why=error)
                    raise NoAnswer(text, internal=True) from error
            return {"feature": request.feature, "files": {field: str(path) for field, path in local.items()}}
        file = "" if isinstance(request, MapRequest) else request.dataset_file
        return {"dataset": str(self._rows(files, file)) if file else None}

    def _rows(self, files: Files, name: str) -> Path:
        """A dataset's rows as a local file; the last file is kept. Raises NoAnswer."""
        if self._dataset is None or self._dataset[0] != name:
            if self._folder is None:
                self._folder = TemporaryDirectory(prefix="vezna-estimate-", ignore_cleanup_errors=True)
            if self._dataset is not None:
                self._dataset[1].unlink(missing_ok=True)
                self._dataset = None
            local = Path(self._folder.name) / Path(name).name
            try:
                files.get(name, local)
            except (NotFound, OSError) as error:
                text = _("The dataset's rows cannot be read: %(why)s", why=error)
                raise NoAnswer(text, internal=True) from error
            self._dataset = (name, local)
        return self._dataset[1]
