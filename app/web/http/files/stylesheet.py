"""All stylesheets as one text that needs no other file: imports, fonts and images are inlined."""

import re
from base64 import b64encode
from functools import cache
from pathlib import Path

from app.web.http.files.static import SHEETS, STATIC

CSS = STATIC / "css"
MEDIA = {".woff2": "font/woff2", ".svg": "image/svg+xml", ".png": "image/png"}


@cache
def whole_stylesheet() -> str:
    """The stylesheets of every page in their order, then the one for print. The layout for narrow windows applies to
    screens only: paper is as narrow as a telephone, but needs another layout."""
    parts = [_whole(CSS / f"{name}.css") for name in SHEETS if name != "narrow"]
    return "\n".join([*parts, f"@media screen {{\n{_whole(CSS / 'narrow.css')}\n}}", _whole(CSS / "paper.css")])


def _whole(file: Path) -> str:
    text = re.sub(
        r'@import url\("([^"]+)"\) layer\((\w+)\);',
        lambda match: f"@layer {match[2]} {{\n{_whole((file.parent / match[1]).resolve())}\n}}",
        file.read_text(),
    )
    return re.sub(r'url\("?(?!data:|#)([^")]+)"?\)', lambda match: _written_out(file.parent / match[1]), text)


def _written_out(file: Path) -> str:
    return f'url("data:{MEDIA[file.suffix]};base64,{b64encode(file.read_bytes()).decode()}")'
