"""Pictures of every page in every language, at 1280 and 390 px, light and dark, for people to look at: `make shots`.

Serves the sample study of VEZNA_HOME (training it first if it is not there) and writes into `shots/`. With
`--url http://…` it takes the pictures of a server that runs already.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import httpx2
from playwright.sync_api import Browser, expect, sync_playwright

from app.features.lab.services import lessons
from app.words.i18n import DEFAULT, LANGUAGES

OUTPUT = Path("shots")
WIDTHS = (1280, 390)
THEMES = ("light", "dark")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
STUDY_SECONDS = 1800
WORKING = ".waits, #map[hx-get]"
"""What a page shows while something is worked out."""
COMPUTE, COMPUTING = "#run form[action$='/compute'] button", "#run[hx-trigger^='every'], #run [hx-trigger^='every']"
"""The button that has a worker compute what a page of the Lab shows, and what the page shows meanwhile."""
WORKING_MILLISECONDS = 600_000
"""What estimates and maps may take."""
PORT = 8765


def pages(url: str) -> dict[str, str]:
    """Names and paths of the pages to take: the newest finished study, one run of each of its arms, the Lab, and its
    newest class."""
    studies = httpx2.get(f"{url}/api/v1/studies").json()["items"]
    study = next(s for s in studies if s["status"] == "finished")
    runs = {httpx2.get(f"{url}/api/v1/runs/{run}").json()["arm"]: run for run in study["runs"]}
    found = {
        "studies": "/studies",
        "study": f"/studies/{study['id']}",
        "flips": f"/studies/{study['id']}/flips",
        "report": f"/studies/{study['id']}/report.html",
        "new-study": "/studies/new",
        "data": "/data",
        "dataset": "/data/bbc-headlines",
        "models": "/models",
        "model": "/models/all-MiniLM-L6-v2",
        "map": "/models/all-MiniLM-L6-v2/map",
        "map-of-a-card": "/models/all-MiniLM-L6-v2/map?device=RTX+3060&batch_sizes=1+8+64+512+4096",
        "runs": "/runs",
        "recipes": "/recipes",
        "recipe": "/recipes/seed-noise",
        "lab": "/lab",
        "lab-recap": "/lab/recap",
        "lab-question": "/lab/questions/block-order",
        "lab-classes": "/lab/classes",
        "workers": "/workers",
        "not-found": "/studies/999999",
    }
    found |= {f"lab-{topic}": lessons.address(topic) for topic in lessons.library()}
    found["lab-validation"] += "?seed=7&guess=100"
    for made in httpx2.get(f"{url}/api/v1/classes").json()[:1]:
        found |= {"lab-class": f"/lab/classes/{made['id']}", "lab-join": f"/lab/join/{made['code']}"}
    return found | {
        f"run-{arm.lower().replace(' ', '-').replace('=', '')}": f"/runs/{run}" for arm, run in runs.items()
    }


def learn(browser: Browser, url: str) -> None:
    """Have the Lab of the sample compute what its pages show, and make a class that runs the newest finished study."""
    page = browser.new_page()
    for topic in [*lessons.library()] * 2:  # memory: what helps is computed second
        page.goto(url + lessons.address(topic))
        if page.locator(COMPUTE).count():
            page.locator(COMPUTE).first.click()
            expect(page.locator(COMPUTING)).to_have_count(0, timeout=WORKING_MILLISECONDS)
    page.close()
    if not httpx2.get(f"{url}/api/v1/classes").json():
        made = httpx2.post(f"{url}/api/v1/classes", json={"name": "LoRA and PEFT"}).json()["id"]
        study = next(s["id"] for s in httpx2.get(f"{url}/api/v1/studies").json()["items"] if s["status"] == "finished")
        chosen = {"study_id": study, "planned_seeds": 10}
        httpx2.post(f"{url}/api/v1/classes/{made}/study", json=chosen).raise_for_status()


def take(browser: Browser, url: str, output: Path) -> None:
    """Take every page in every language, width and theme; those in another language than English end with its code."""
    output.mkdir(exist_ok=True)
    for language, width, theme in product(LANGUAGES, WIDTHS, THEMES):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, device_scale_factor=1, locale=language
        )
        suffix = "" if language == DEFAULT else f"-{language}"
        page = context.new_page()
        for name, path in pages(url).items():
            page.goto(url + path, wait_until="load")
            page.wait_for_timeout(150)
            expect(page.locator(WORKING)).to_have_count(0, timeout=WORKING_MILLISECONDS)
            page.screenshot(path=output / f"{name}-{width}-{theme}{suffix}.png", full_page=True)
        context.close()


@contextmanager
def demo() -> Iterator[str]:
    """Serve the sample study, once every run of it has ended."""
    url = f"http://127.0.0.1:{PORT}"
    server = subprocess.Popen([sys.executable, "-m", "app.cli", "demo", "--port", str(PORT)])
    try:
        deadline = time.monotonic() + STUDY_SECONDS
        while time.monotonic() < deadline and server.poll() is None:
            try:
                studies = httpx2.get(f"{url}/api/v1/studies").json()["items"]
            except httpx2.TransportError:
                studies = []
            if any(study["status"] == "finished" for study in studies):
                yield url
                return
            time.sleep(1)
        raise SystemExit("the sample study has not ended; see .vezna/logs")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        if options.url:
            take(browser, options.url.rstrip("/"), options.output)
        else:
            with demo() as url:
                learn(browser, url)
                take(browser, url, options.output)
        browser.close()
    print(f"pictures are in {options.output}/")


if __name__ == "__main__":
    main()
