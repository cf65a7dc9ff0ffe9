"""Data in every state, for the pages: uploads that are read, being read and unreadable; datasets with findings, with
conversations, and one that is blocked. They are read for real."""

import json
from pathlib import Path
from typing import Protocol

from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import UploadRow
from tests.support.ingested import context, dataset, upload

REVIEWS = (
    b"text,label,split\n"
    + b"".join(
        b"good thing %d,1,train\nbad thing %d,0,%s\n" % (i, i, b"test" if i % 5 == 0 else b"train") for i in range(60)
    )
    + b"good thing 1,1,train\n=SUM(A1),1,train\n"
)
CHATS = "".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"What is {i} and one?"},
                {"role": "assistant", "content": f"{i + 1}"},
            ]
        }
    )
    + "\n"
    for i in range(40)
)


class Place(Protocol):
    """Where it is put."""

    database: Database
    files: Files


def fill_data(place: Place, home: Path) -> None:
    """Uploads 1 to 5 and datasets `reviews`, `chats` and `few`."""
    here = context(Settings(home=home), place.database, place.files)
    dataset(here, upload(here, {"reviews.csv": REVIEWS}), "reviews")
    dataset(here, upload(here, {"chats.jsonl": CHATS.encode()}), "chats")
    dataset(here, upload(here, {"few.csv": b"text,label\na,x\nb,y\n"}), "few")
    upload(here, {"ragged.csv": b"text,label\na,b\nc\n"})
    with here.database.transaction() as session:
        session.add(
            UploadRow(source="hub", name="fancyzhx/ag_news", location="fancyzhx/ag_news", progress=0.4, rows_read=9000)
        )
