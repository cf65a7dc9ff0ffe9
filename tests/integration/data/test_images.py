"""Images of a dataset on its pages: a worker made them, and they are served as pictures and nothing else."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.domain.data.dataset import ImageRow
from app.main import create_app
from app.services.data.images import image_of
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.files.rows_file import RowsFile
from app.store.tables import DatasetRow
from tests.support.fakes.fakes import SilentBell
from tests.support.ingested import context, dataset, upload
from tests.support.tiny import images as tiny_images
from tests.unit.worker.ingest.test_image_rows import folders, zipped
from worker.engine.data.batches.batches import read
from worker.engine.data.images import pngs


@pytest.fixture
def colours(database: Database, settings: Settings, files: Files) -> DatasetRow:
    """A dataset made from a zip archive, with one image that cannot be read."""
    here = context(settings, database, files)
    broken = {"red/page.png": b"<svg onload='alert(1)'/>", "red/IMG_7.HEIC": b"x", "notes.txt": b"x"}
    row = upload(here, {"colours.zip": zipped(folders() | broken)})
    assert (row.status, row.message) == ("read", "")
    made = dataset(here, row, "colours")
    assert (made.status, made.message) == ("ready", "")
    return made


@pytest.fixture
def web(colours: DatasetRow, settings: Settings, bell: SilentBell) -> Iterator[TestClient]:
    app = create_app(settings)
    app.state.doorbell = bell
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def rows(files: Files, colours: DatasetRow) -> list[ImageRow]:
    splits = read(str(files.local(colours.file)), "labelled-images")
    found = [row for part in splits.values() for row in part if isinstance(row, ImageRow)]
    return [found[place]._replace(image=png) for place, png in sorted(pngs(found))]


def test_an_image_is_a_png_that_runs_nothing(web: TestClient, files: Files, colours: DatasetRow) -> None:
    for row in (rows(files, colours)[0], rows(files, colours)[-1]):
        answer = web.get(f"/data/colours@1/images/{row.item}")
        assert answer.status_code == 200 and answer.content == row.image
        assert Image.open(BytesIO(answer.content)).size == (12, 10)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; base-uri 'none'")
        assert answer.headers["cache-control"] == "private, max-age=86400, immutable"


def test_the_image_of_every_row_group_is_found(files: Files, tmp_path: Path) -> None:
    written = tiny_images.rows(7, 3, 2)
    with RowsFile(tmp_path / "rows.parquet", "labelled-images", tiny_images.LABELS) as file:
        for start, end in ((0, 5), (5, 6), (6, 12)):
            file.write(written[start:end])
    files.put(tmp_path / "rows.parquet", "datasets/groups.parquet")
    facts = file.facts.model_dump(mode="json")
    row = DatasetRow(name="groups", file="datasets/groups.parquet", status="ready", facts_json=facts)
    assert [image_of(files, row, image.item) for image in written] == [image.image for image in written]


@pytest.mark.parametrize("item", ["0" * 16, "..%2f..%2fetc", "a b", "%F0%9F%98%80"])
def test_there_is_nothing_else(item: str, web: TestClient) -> None:
    answer = web.get(f"/data/colours/images/{item}")
    assert answer.status_code == 404 and "png" not in answer.headers["content-type"]


def test_rows_without_images_have_none(web: TestClient, database: Database, settings: Settings, files: Files) -> None:
    here = context(settings, database, files)
    text = b"text,label\n" + b"".join(b"good thing %d,yes\nbad thing %d,no\n" % (i, i) for i in range(60))
    made = dataset(here, upload(here, {"reviews.csv": text}), "reviews")
    [item] = [row.item for row in read(str(files.local(made.file)), "labelled")["train"]][:1]
    assert web.get(f"/data/reviews/images/{item}").status_code == 404


def test_the_page_of_a_dataset_shows_its_examples(web: TestClient) -> None:
    page = web.get("/data/colours").text
    assert "Unreadable images" in page and "megapixels" in page
    assert "2 files of the archive were skipped, because Vezna does not read their formats: .heic (1), .txt (1)" in page
    assert "Show 2 files" in page and "red/IMG_7.HEIC" in page
    assert "&lt;svg" not in page and "<svg onload" not in page
    assert 'name="max_length"' not in page and "No base model that can learn from these rows is ready." in page
