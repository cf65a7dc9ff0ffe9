"""Downloads a hub dataset by the datasets library, as one Parquet file per split, labels with their names.

The library (since 4.0) refuses a dataset that needs Python code from its repository. This module is imported by name
and only for a hub dataset: the import takes a second, and the library may not be installed (`vezna[hub]`).
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import datasets
from huggingface_hub import HfApi, constants

from app.domain.data.uploads import SourceRequest
from app.domain.errors import first_line
from app.domain.failures import RunFailed
from app.domain.messages import Message, _
from app.domain.models.hub_access import HubAccess
from worker.engine.models.hub.access import Place, acting_for, first_allowed
from worker.engine.models.hub.errors import errors_explained
from worker.ingest.readers.batches import Unreadable
from worker.ingest.readers.files import Progress

_SECONDS = 20.0
"""Timeout of a request to the hub."""
_SIGN_SECONDS = 5.0
"""Seconds between two signs of life during a download."""


class Fetched(NamedTuple):
    commit: str
    splits: dict[str, Path]
    """The file of each split."""


def fetch(request: SourceRequest, folder: Path, progress: Progress, access: HubAccess | None = None) -> Fetched:
    """Resolve the revision to a commit, download the dataset at that commit, and write each split into the folder.
    What opens to a user's token only is cached in the folder, so that it reaches no other user. Raises Unreadable."""
    datasets.disable_progress_bars()
    try:
        with _signs(progress), acting_for(access):
            return first_allowed(lambda place: _fetched(request, folder, place))
    except RunFailed as error:
        raise Unreadable(error.message) from error


def _fetched(request: SourceRequest, folder: Path, place: Place) -> Fetched:
    commit = commit_of(request.location, request.revision, place)
    if not place.own:
        return Fetched(commit, _written(request, commit, folder, place))
    with TemporaryDirectory(dir=folder) as cache, _caching_in(cache):
        return Fetched(commit, _written(request, commit, folder, place, cache))


def commit_of(location: str, revision: str, place: Place) -> str:
    """The commit that a branch or tag points to now."""
    with errors_explained(location, revision, "dataset", own=place.own):
        api = HfApi(token=place.token)
        return str(api.dataset_info(location, revision=revision or None, timeout=_SECONDS).sha)


def _written(
    request: SourceRequest, commit: str, folder: Path, place: Place, cache: str | None = None
) -> dict[str, Path]:
    try:
        with errors_explained(request.location, commit, "dataset", own=place.own):
            loaded = datasets.load_dataset(
                request.location,
                request.config or None,
                revision=commit,
                split=request.split or None,
                cache_dir=cache,
                token=place.token,
            )
    except RunFailed:
        raise
    except Exception as error:  # dataset builders raise any exception on bad files
        raise Unreadable(_unloadable(request.location, error)) from error
    by_split = dict(loaded) if isinstance(loaded, dict) else {request.split: loaded}
    files = {}
    for number, (split, rows) in enumerate(by_split.items()):
        files[str(split)] = folder / f"split-{number}.parquet"
        rows.to_parquet(str(files[str(split)]))
    return files


@contextmanager
def _caching_in(folder: str) -> Iterator[None]:
    """Have the datasets library, which names no cache to huggingface_hub, use this one."""
    before, constants.HF_HUB_CACHE = constants.HF_HUB_CACHE, folder
    try:
        yield
    finally:
        constants.HF_HUB_CACHE = before


def _unloadable(location: str, error: Exception) -> Message:
    reason = first_line(error)
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
