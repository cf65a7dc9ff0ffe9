"""The documentation site, from docs/ and the pages beside it.

python -m tests.support.servers.docs_site [--build]     writes site/VERSION, keeps the sites of other versions, and
serves them all

Links must work on a page of the repository and on the site, so those that leave docs/ are rewritten: the pages of
`OUTSIDE` become pages of the site, and any other file is copied to `files/`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from tempfile import TemporaryDirectory

from app.settings import ROOT

DOCS = ROOT / "docs"
SITE = ROOT / "site"
PORT = 8002
OUTSIDE = {
    "README.md": "index.md",
    "README.bg.md": "bg/README.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
"""Pages of the repository outside of docs/, and where they are on the site."""
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
"""The path of a link to a file."""


def build(into: Path) -> None:
    """Write the site into a folder. SystemExit with what the generator printed if it warns of anything."""
    with TemporaryDirectory() as name:
        source = Path(name)
        shutil.copytree(DOCS, source / "docs")
        shutil.move(source / "docs" / "zensical.toml", source)
        shutil.copy(ROOT / "static" / "favicon.svg", source / "docs")
        for page in [*OUTSIDE, *(f"docs/{path.relative_to(DOCS)}" for path in DOCS.rglob("*.md"))]:
            written = source / "docs" / place(page)
            written.parent.mkdir(exist_ok=True)
            written.write_text(LINK.sub(partial(_link, page, source / "docs"), (ROOT / page).read_text()))
        command = [Path(sys.executable).with_name("zensical"), "build", "--strict"]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
        if done.returncode or "Warning" in done.stdout + done.stderr:
            raise SystemExit(done.stdout + done.stderr)
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(source / "site", into)


def place(file: str) -> str:
    """Where a file of the repository is on the site, by its path."""
    return OUTSIDE.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else f"files/{file}")


def _link(page: str, docs: Path, link: re.Match[str]) -> str:
    target = normpath(join(dirname(page), link[1]))
    if place(target).startswith("files/"):
        copy = docs / place(target)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / target, copy)
    return relpath(place(target), dirname(place(page)))


def main() -> None:
    """Build the site of this version, list the versions there are, and serve them."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    build(SITE / version)
    versions = sorted((path.name for path in SITE.iterdir() if path.is_dir()), key=_numbers, reverse=True)
    listed = [{"version": name, "title": name, "aliases": []} for name in versions]
    (SITE / "versions.json").write_text(json.dumps(listed))
    (SITE / "index.html").write_text(f'<meta http-equiv="refresh" content="0; url={versions[0]}/index.html">')
    print(f"{SITE / version} is built.", flush=True)
    if "--build" not in sys.argv:
        port = int(os.environ.get("PORT", PORT))
        print(f"Serving the documentation at http://127.0.0.1:{port}; Ctrl+C ends it.", flush=True)
        handler = partial(SimpleHTTPRequestHandler, directory=SITE)
        with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


if __name__ == "__main__":
    main()
