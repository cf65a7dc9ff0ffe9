"""Every page, with its folded parts unfolded: no finding of axe-core, nothing wider than the screen, at both widths
and in both themes."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser

from app.services import imports
from app.store.queries import runs
from tests import filled_estimates
from tests.browser.accessibility import SCREENS, Theme, violations
from tests.browser.conftest import Site
from tests.filled_data import fill_data
from tests.filled_language import fill_language
from tests.imported_results import peft_files
from tests.tuned_studies import add_tuned_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # sixty pages, which take minutes on a busy machine

HUGE = '{"training.per_device_train_batch_size":4096,"training.max_length":512}'
QUERIES = "bert.encoder.layer.0-5.attention.self.query"
COLUMNS = "study_name,arm,model,data,task,metric,loss,peak,wall,speed,trainable,size,rank,failure,device,tag,note"
PAGES = {
    "studies": "/studies",
    "study": "/studies/1",
    "running study": "/studies/2",
    "study looked at otherwise": "/studies/3?sort=-score&x=trainable&y=file&curve=gradient&by=time&smooth=0.9",
    "study with a price that is none": "/studies/1?hour=cheap&gib_month=0.02&currency=EUR",
    "new study": "/studies/new",
    "undecided plan": "/studies/new?from_study=3",
    "new study of a language model": "/studies/new?from_study=5",
    "new study that fits nowhere": f"/studies/new?{urlencode({'from_run': 25, 'set': HUGE})}",
    "data": "/data",
    "data with a mistake": "/data/bbc-headlines?max_length=none",
    "models": "/models",
    "model": "/models/all-MiniLM-L6-v2",
    "language model": "/models/t5-small",
    "chat model": "/models/SmolLM2-135M",
    "model with chosen layers": f"/models/all-MiniLM-L6-v2?method=oft&module={QUERIES}",
    "model with no layer chosen": "/models/all-MiniLM-L6-v2?r=many&ticked=1",
    "map": "/models/all-MiniLM-L6-v2/map?methods=full&methods=lora&methods=bitfit&device=RTX+3060&batch_sizes=1+4096",
    "map with a mistake": "/models/all-MiniLM-L6-v2/map?methods=nope&lengths=many",
    "model that waits": "/models/distilbert-base",
    "runs": "/runs",
    "no such runs": "/runs?method=full&status=cancelled&study=3",
    "compared runs": "/compare?runs=1,2&show=all",
    "compared studies": "/compare?study=1&study=2&sort=score",
    "compared with results from elsewhere": "/compare?runs=1,56,57&x=time",
    "one run to compare": "/compare?runs=1",
    "nothing to compare": "/compare",
    "imports": "/imports",
    "imported run": "/runs/57",
    "groups of runs": "/runs?group=seed&baseline=1&open=2",
    "runs with a baseline and many columns": f"/runs?baseline=1&columns={COLUMNS}",
    "filter with a mistake": "/runs?filter=failed+and+acuracy",
    "words of a filter": "/runs/words",
    "notes": "/runs/2/notes",
    "finished run": "/runs/2",
    "running run": "/runs/16",
    "queued run": "/runs/17",
    "failed run": "/runs/25",
    "study of a language model": "/studies/5",
    "running study of a language model": "/studies/6?curve=validation",
    "run of a language model": "/runs/46",
    "workers": "/workers",
    "not found": "/runs/9999",
}
UNFOLD = "for (const folded of document.querySelectorAll('main details:not(.menu, .files *)')) folded.open = true"
TO_THE_END = "scrollTo(0, document.body.scrollHeight)"
"""Where the bar below a form covers nothing of it: what it covers elsewhere can be scrolled free."""


@pytest.mark.parametrize(("width", "themes"), SCREENS)
def test_every_page_is_accessible_and_fits(
    width: int, themes: Sequence[Theme], site: Site, chromium: Browser, tmp_path: Path
) -> None:
    fill_data(site, tmp_path)
    with site.database.transaction() as session:
        fill_language(session)
        imports.add_results(session, imports.read_files(peft_files()), "MetaMathQA")
        filled_estimates.attach_estimates(session)
        filled_estimates.run_out_of_memory(session, runs.get(session, 25))
        tuned = add_tuned_study(session)
        halving = dict.fromkeys(("full", "LoRA r=8", "head only"), (0.8, 0.82, 0.85, 0.86, 0.8, None))
        under_way = add_tuned_study(session, halving, how="halving", finals=False)
        trial = runs.trials_of(session, tuned)[0].id
    pages = PAGES | {
        "tuned study": f"/studies/{tuned}",
        "tuned study under way": f"/studies/{under_way}",
        "trial": f"/runs/{trial}",
        "another arm": f"/studies/{tuned}/arms/new",
        "another arm, filled in": f"/studies/{tuned}/arms/new?method=lora",
        "dataset": "/data/reviews",
        "dataset of conversations": "/data/chats",
        "blocked dataset": "/data/few",
        "upload that is read": "/data/uploads/1",
        "upload that cannot be read": "/data/uploads/4",
        "upload that is being read": "/data/uploads/5",
        "new study with tuning": f"/studies/new?from_study={tuned}",
    }
    found = []
    context = chromium.new_context(base_url=site.url, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    for name, path in pages.items():
        page.emulate_media(color_scheme=themes[0])
        page.goto(path)
        while filled_estimates.answer_requests(site.database):
            page.goto(path)
        page.evaluate(UNFOLD)
        page.evaluate(TO_THE_END)
        where = f"{name}, {width} px"
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wider > 0:
            found.append(f"{where}: {wider} px wider than the screen")
        for theme, violation in violations(page, themes):
            nodes = "; ".join(node["html"][:160] for node in violation["nodes"][:3])
            found.append(f"{where}, {theme}: {violation['id']} ({violation['impact']}): {nodes}")
    context.close()
    assert found == [], "\n".join(found)
