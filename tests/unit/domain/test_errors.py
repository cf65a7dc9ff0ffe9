"""What a library's error says, in one line."""

import pytest

from app.domain.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("the file is broken.\nTry another."), "the file is broken"),
        (OSError("\n  cannot open x:\n  no such file"), "cannot open x"),
        (KeyError("a.b"), "'a.b'"),
        (RuntimeError("disk full \nmore"), "disk full"),
        (RuntimeError(), "RuntimeError"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line
