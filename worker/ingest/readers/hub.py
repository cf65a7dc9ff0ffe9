"""Downloads a hub dataset by the datasets library, as one Parquet file per split, labels with their names.

The library (since 4.0) refuses a dataset that needs Python code from its repository. This module is imported by name
and only for a hub dataset: the import takes a second, and the library may not be installed (`vezna[hub]`).
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import datasets
from huggingface_hub import HfApi

from app.domain.data.uploads import SourceRequest
from app.domain.failures import RunFailed
from app.domain.messages import Message, _
from worker.engine.models.hub_errors import errors_explained
from worker.ingest.readers.batches import Unreadable
from worker.ingest.readers.files import Progress

_SECONDS = 20.0
"""Timeout of a request to the hub."""
_SIGN_SECONDS = 5.0
"""Seconds between two signs of life during a download."""


class Fetched(NamedTuple):
    """A downloaded dataset."""

    commit: str
    splits: dict[str, Path]
    """The file of each split."""


def fetch(request: SourceRequest, folder: Path, progress: Progress) -> Fetched:
    """Resolve the revision to a commit, download the dataset at that commit, and write each split into the folder.
    Raises Unreadable."""
    datasets.disable_progress_bars()
    commit = commit_of(request.location, request.revision)
    with _signs(progress):
        return Fetched(commit, _written(request, commit, folder))


def commit_of(location: str, revision: str) -> str:
    """The commit that a branch or tag points to now."""
    try:
        with errors_explained(location, revision, "dataset"):
            return str(HfApi().dataset_info(location, revision=revision or None, timeout=_SECONDS).sha)
    except RunFailed as error:
        raise Unreadable(error.message) from error


def _written(request: SourceRequest, commit: str, folder: Path) -> dict[str, Path]:
    try:
        with errors_explained(request.location, commit, "dataset"):
            loaded = datasets.load_dataset(
                request.location, request.config or None, revision=commit, split=request.split or None
            )
    except RunFailed as error:
        raise Unreadable(error.message) from error
    except Exception as error:  # dataset builders raise any exception on bad files
        raise Unreadable(_unloadable(request.location, error)) from error
    by_split = dict(loaded) if isinstance(loaded, dict) else {request.split: loaded}
    files = {}
    for place, (split, rows) in enumerate(by_split.items()):
        files[str(split)] = folder / f"split-{place}.parquet"
        rows.to_parquet(str(files[str(split)]))
    return files


def _unloadable(location: str, error: Exception) -> Message:
    reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    if "scripts are no longer supported" in reason:
        return _(
            "%(location)s needs Python code from its repository, which Vezna never runs. Use the revision "
            "refs/convert/parquet, where the hub may have its rows, or upload them.",
            location=location,
        )
    choices = re.search(r"available configs?: (\[.*\])", str(error))
    if "onfig name is missing" in reason and choices:
        names = choices[1][:300]
        return _("%(location)s has several configs. Choose one of %(names)s.", location=location, names=names)
    return _("%(location)s could not be loaded (%(reason)s).", location=location, reason=reason[:300])


@contextmanager
def _signs(progress: Progress) -> Iterator[None]:
    """Report progress in a thread while the library works, since it reports none."""
    finished = threading.Event()

    def sign() -> None:
        while not finished.wait(_SIGN_SECONDS):
            progress(0.0, 0)

    thread = threading.Thread(target=sign, daemon=True, name="signs")
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
