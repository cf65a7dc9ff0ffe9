"""`track`: report the run of any training loop to a study that was declared before (docs/elsewhere.md).

with vezna.track("MiniLM elsewhere", "LoRA r=8", seed=0, model=model, train=train, test=test,
                 metric_version="argmax equals label, 1") as run:
    for step, batch in enumerate(batches, start=1):
        run.log_step(step, loss=train_on(batch))
    run.log_item_scores([float(predict(row) == row["label"]) for row in test])
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

from vezna import facts
from vezna.errors import ClientError
from vezna.run import Run
from vezna.scores.items import is_stream, item_groups, item_names, split_hash
from vezna.sending.buffer import Buffer, InUse, has_ended
from vezna.sending.sender import Sender

log = logging.getLogger("vezna")
DIRECTORY = "vezna-runs"
Rows = Iterable[Any]
_runs: WeakValueDictionary[Path, Run] = WeakValueDictionary()
"""Runs of this process, by their files."""


def track(
    study: int | str,
    arm: str,
    *,
    seed: int,
    model: Any = None,
    train: Rows | str | None = None,
    validation: Rows | str | None = None,
    test: Rows | str | None = None,
    columns: Sequence[str] | None = None,
    group: str | Sequence[Any] | None = None,
    metric_version: str = "",
    settings: Mapping[str, Any] | None = None,
    total_steps: int | None = None,
    stated: Mapping[str, Any] | None = None,
    key: str | None = None,
    url: str | None = None,
    token: str | None = None,
    directory: Path | str = DIRECTORY,
) -> Run:
    """Open the run of an arm and a seed of a declared study, by its id or name.

    `train`, `validation`, `test`: the rows, of which only hashes are sent, or the SHA-256 of a split in hexadecimal;
    `columns` are those that count. `group`: the column of the test rows, or a value for each, that rows of one user,
    document or template share; the intervals count those, and equal inputs, as one. `metric_version`: what computes the
    score of an item, by name and version; without it there is no verdict. `settings`: how the training is configured;
    PEFT's configuration is read from the `model`.
    `stated`: more facts by the names of docs/elsewhere.md. `key`: the run's own name; by default the same script,
    started again in the same directory, continues its run. `directory` keeps what is not sent yet. Of several processes
    that train together, the one of rank 0 reports. It raises nothing for what Vezna cannot do: it logs one line, and
    reports nothing.
    """
    names: list[str] | None = None
    groups: dict[str, str] = {}
    known: dict[str, Any] = {}
    if int(os.environ.get("RANK") or 0) != 0:
        return Run(None, {}, None)
    try:
        names, known = _facts(model, {"train": train, "validation": validation, "test": test}, columns)
        if names is not None:
            groups = _groups(test, names, columns, group)
        elif group is not None:
            log.warning("Vezna: group=… needs the rows of the test set as test=…, so the items count as independent.")
        known["settings"] = facts.plain(dict(settings or {})) | known.get("settings", {})
        known |= facts.plain(dict(stated or {})) | ({"metric_version": metric_version} if metric_version else {})
        if "metric_version" not in known:
            log.warning("Vezna: no verdict without metric_version=…: name what computes the score of an item.")
        opening = {"study": study, "arm": arm, "seed": seed, "facts": known}
        if total_steps:
            opening["total_steps"] = total_steps
        run = Run(_sender(opening, key, url, token, Path(directory)), known, names, groups)
        if run.file is not None:
            _runs[run.file] = run
        return run
    except InUse as error:
        _not_reported(f"another process reports this run ({error})", "Stop it, or give another directory=…")
    except ClientError as error:
        _not_reported(str(error), "")
    except OSError as error:
        _not_reported(f"{error.filename or directory}: {error.strerror or error}", "Give another directory=…")
    except Exception as error:  # whatever a dataset or a model does
        _not_reported(f"{type(error).__name__}: {error}", "Correct what was given to track, and start the script again")
    return Run(None, known, names)


def _not_reported(why: str, remedy: str) -> None:
    sentences = " ".join(f"{part.rstrip('.')}." for part in (why, remedy) if part)
    log.error("Vezna: this training is not reported. %s", sentences)


def _groups(
    test: Any, names: Sequence[str], columns: Sequence[str] | None, group: str | Sequence[Any] | None
) -> dict[str, str]:
    try:
        return item_groups(test, names, columns, group)
    except Exception as error:  # whatever was given as group
        log.warning("Vezna: the groups of the test items are unknown (%s), so the items count as independent.", error)
        return {}


def _facts(
    model: Any, splits: Mapping[str, Rows | str | None], columns: Sequence[str] | None
) -> tuple[list[str] | None, dict[str, Any]]:
    """The names of the test items, if the test set was given, and what is known without asking the script."""
    known, hashes, names = facts.of_process(), {}, None
    for split, rows in splits.items():
        if isinstance(rows, str):
            hashes[split] = rows
        elif rows is not None:
            if is_stream(rows):
                log.warning(
                    "Vezna: the %s split is a stream, which cannot be hashed before the training: no verdict without "
                    "its hash. Give it as %s=\"<SHA-256>\", alike in every run.", split, split,
                )  # fmt: skip
                continue
            named = item_names(rows, columns)
            hashes[split] = split_hash(named)
            names = named if split == "test" else names
    known["splits"] = hashes
    return names, known | (facts.of_model(model) if model is not None else {})


def _sender(opening: dict[str, Any], key: str | None, url: str | None, token: str | None, directory: Path) -> Sender:
    """With the buffer of the run that goes on in a directory, or of a new one. Raises InUse, OSError, ClientError."""
    study, arm, seed = opening["study"], opening["arm"], opening["seed"]
    identity = f"{url or os.environ.get('VEZNA_URL', '')}\n{study}\n{key or ''}\n{arm}\n{seed}"
    place = hashlib.sha256(identity.encode()).hexdigest()[:8]
    stem = f"{re.sub(r'[^A-Za-z0-9]+', '-', f'{arm} {seed}').strip('-')}-{place}"
    going, earlier = None, []
    try:
        for path in sorted(directory.glob(f"{stem}-*.jsonl")):
            if before := _runs.get(path.resolve()):  # of this process: a cell of a notebook that was run again
                before.leave()
            try:
                buffer = Buffer(path)
            except InUse:
                if has_ended(path):  # another process sends it
                    continue
                raise
            if buffer.closed or buffer.opening is None:
                buffer.close()
            elif buffer.end is not None:
                earlier.append(buffer)
            else:
                going = buffer
    except InUse:
        for buffer in earlier:
            buffer.close()
        raise
    buffer = going or Buffer(directory / f"{stem}-{uuid4().hex[:8]}.jsonl")
    continued = buffer.opening["key"] if buffer.opening else None
    buffer.begin(opening | {"key": key or continued or str(uuid4())})
    return Sender(buffer, url=url, token=token, own_key=key is None, earlier=earlier)
