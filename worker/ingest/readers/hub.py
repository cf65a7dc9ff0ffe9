"""Datasets of the hub, by the datasets library, as Parquet files: one a split, labels with their names.

The library (since 4.0) runs no Python of a repository; a dataset that needs some is refused by it. Imported by name and
only where a dataset of the hub is asked for: it takes a second, and may not be installed (`vezna[hub]`).
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
from worker.engine.models.hub_errors import said
from worker.ingest.readers.batches import Unreadable
from worker.ingest.readers.files import Progress

_SECONDS = 20.0
"""The hub may take so long to answer a question."""
_SIGN_SECONDS = 5.0
"""So often is said that something is still being fetched."""


class Fetched(NamedTuple):
    """What was fetched."""

    commit: str
    splits: dict[str, Path]
    """The file of each split."""


def fetch(wanted: SourceRequest, folder: Path, progress: Progress) -> Fetched:
    """Resolve the revision to a commit, load what was asked for at it, and write each split into the folder. Raises
    Unreadable with a sentence."""
    datasets.disable_progress_bars()
    commit = commit_of(wanted.location, wanted.revision)
    with _signs(progress):
        return Fetched(commit, _written(wanted, commit, folder))


def commit_of(location: str, revision: str) -> str:
    """What a branch or a tag stands for now."""
    try:
        with said(location, revision, "dataset"):
            return str(HfApi().dataset_info(location, revision=revision or None, timeout=_SECONDS).sha)
    except RunFailed as error:
        raise Unreadable(error.message) from error


def _written(wanted: SourceRequest, commit: str, folder: Path) -> dict[str, Path]:
    try:
        with said(wanted.location, commit, "dataset"):
            loaded = datasets.load_dataset(
                wanted.location, wanted.config or None, revision=commit, split=wanted.split or None
            )
    except RunFailed as error:
        raise Unreadable(error.message) from error
    except Exception as error:  # builders raise whatever they like at files that they do not like
        raise Unreadable(_unloadable(wanted.location, error)) from error
    by_split = dict(loaded) if isinstance(loaded, dict) else {wanted.split: loaded}
    found = {}
    for place, (split, rows) in enumerate(by_split.items()):
        found[str(split)] = folder / f"split-{place}.parquet"
        rows.to_parquet(str(found[str(split)]))
    return found


def _unloadable(location: str, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    if "scripts are no longer supported" in reason:
        return (
            f"{location} needs Python code from its own repository, which is never run: name the revision "
            "refs/convert/parquet, where the hub may have its rows, or upload them."
        )
    choices = re.search(r"available configs?: (\[.*\])", str(error))
    if "onfig name is missing" in reason and choices:
        return f"{location} has several configs: name one of {choices[1][:300]}."
    return f"{location} could not be loaded ({reason[:300]})."


@contextmanager
def _signs(progress: Progress) -> Iterator[None]:
    """Of life, while the library is at work, which says nothing itself."""
    done = threading.Event()

    def sign() -> None:
        while not done.wait(_SIGN_SECONDS):
            progress(0.0, 0)

    thread = threading.Thread(target=sign, daemon=True, name="signs")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
