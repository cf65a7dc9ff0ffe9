"""Files of exports that nothing needs any more."""

import re
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.features.shipping.queries import exports
from app.store.database import deletion
from app.store.files.files import RUNS, run_folder

EXPORTED = re.compile(rf"(?P<attempt>(?P<export>(?P<run>{RUNS}/\d+)/exports/\d+)/\d+)/.+")
"""A file of an export (`ModelExportRow.prefix`)."""


def strays(session: Session, names: Sequence[str]) -> dict[str, list[str]]:
    """Of the files below the runs' folders, those of deleted exports and of attempts to export that are over without a
    result, by the folder that can be removed."""
    known = {row.folder: row for row in exports.everyone(session)}
    present = {run_folder(run_id) for run_id in deletion.run_ids(session)}
    found = defaultdict[str, list[str]](list)
    for name in names:
        if (match := EXPORTED.fullmatch(name)) and match["run"] in present:
            row = known.get(match["export"])
            if row is None:
                found[match["export"]].append(name)
            elif row.status not in ("running", "succeeded") or row.prefix != match["attempt"]:
                found[match["attempt"]].append(name)
    return found
