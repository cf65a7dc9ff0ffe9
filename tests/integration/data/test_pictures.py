"""Pictures of requests are decoded in a process of their own before a model sees them."""

import sys
from io import BytesIO

import pytest
from PIL import Image

from app.domain.errors import Invalid
from app.features.serving.rules import InferenceRequest, Picture, Subject
from tests.unit.worker.ingest.images.test_images import SVG, saved
from worker.children.host import ChildError
from worker.features.serving.inference import pictures


def request(*files: bytes) -> InferenceRequest:
    inputs = [Picture.of(file) for file in files]
    return InferenceRequest(id="1", kind="predict", subjects=[Subject(run_id=1)], inputs=inputs)


@pytest.mark.slow
def test_pictures_become_pngs_as_those_of_datasets_do() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    jpeg = saved(Image.new("RGB", (1200, 600), "red"), "JPEG", exif=exif)
    found = pictures.decoded(request(jpeg, saved(Image.new("L", (3, 2)), "GIF")))
    images = [Image.open(BytesIO(given.data)) for given in found.inputs if isinstance(given, Picture)]
    assert [(image.format, image.mode, image.size) for image in images] == [
        ("PNG", "RGB", (512, 1024)), ("PNG", "RGB", (3, 2)),
    ]  # fmt: skip


@pytest.mark.slow
def test_what_is_no_picture_is_refused_by_its_place() -> None:
    with pytest.raises(Invalid) as refused:
        pictures.decoded(request(saved(Image.new("RGB", (3, 2))), SVG, saved(Image.new("1", (8000, 8000)))))
    assert [(field.path, str(field.message)) for field in refused.value.fields] == [
        ("inputs.1", "This image cannot be read (cannot identify image file)"),
        ("inputs.2", "This image cannot be read (8000 × 8000 px)"),
    ]


def test_a_process_that_ends_is_an_error_and_texts_need_none() -> None:
    ends = (sys.executable, "-c", "raise SystemExit(1)")
    with pytest.raises(ChildError):
        pictures.decoded(request(b"x"), ends)
    texts = InferenceRequest(id="1", kind="predict", subjects=[Subject(run_id=1)], inputs=["a"])
    assert pictures.decoded(texts, ends) is texts
