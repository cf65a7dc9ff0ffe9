"""What we serve of others is exactly what they published."""

import hashlib

import pytest

from app.web.http.files.static import STATIC

VENDOR = STATIC / "vendor"
LINES = [
    line.split("  ") for line in (VENDOR / "CHECKSUMS").read_text().splitlines() if line and not line.startswith("#")
]


@pytest.mark.parametrize(("digest", "path", "package", "source"), LINES)
def test_a_vendored_file_is_untouched(digest: str, path: str, package: str, source: str) -> None:
    assert hashlib.sha256((VENDOR / path).read_bytes()).hexdigest() == digest
    assert "@" in package[1:]
    assert source


def test_every_vendored_file_is_listed_and_comes_with_its_licence() -> None:
    there = {str(file.relative_to(VENDOR)) for file in VENDOR.rglob("*") if file.is_file()}
    listed = {path for _digest, path, _package, _source in LINES}
    assert there == listed | {"CHECKSUMS"}
    for directory in {path.partition("/")[0] for path in listed}:
        assert list((VENDOR / directory).glob("LICENSE*"))
