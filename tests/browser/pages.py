"""Every page of a site that has one of everything, in every state that looks different."""

from pathlib import Path
from urllib.parse import urlencode

from app.features.elsewhere.services import imports
from app.store.runs import queries as runs
from tests.browser.conftest import Site
from tests.support.filled import estimates as filled_estimates
from tests.support.filled.data import fill_data
from tests.support.filled.judged import add_judgements
from tests.support.filled.lab import fill_lab
from tests.support.filled.language import fill_language
from tests.support.rows.imported_results import peft_files
from tests.support.rows.tuned_studies import add_tuned_study

HUGE = '{"training.per_device_train_batch_size":4096,"training.max_length":512}'
QUERIES = "bert.encoder.layer.0-5.attention.self.query"
COLUMNS = "study_name,arm,model,data,task,metric,loss,peak,wall,speed,trainable,size,rank,failure,device,tag,note"
PAGES = {
    "studies": "/studies",
    "study": "/studies/1",
    "costs of a study": "/studies/1/costs?x=trainable&y=file",
    "errors of a study": "/studies/1/errors",
    "weights of a study": "/studies/1/weights?matrices=intruders",
    "conditions of a study": "/studies/1/conditions",
    "running study": "/studies/2",
    "study looked at otherwise": "/studies/3?sort=-score&curve=gradient&by=time&smooth=0.9",
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
    "judge model": "/studies/5/judge",
    "playground": "/playground",
    "playground with models": "/playground?model=base&model=2&model=1",
    "playground of language models": "/playground?model=base&model=46",
    "workers": "/workers",
    "not found": "/runs/9999",
}


def everything(site: Site, folder: Path) -> dict[str, str]:
    """Fill a site; the name and the address of every page."""
    fill_data(site, folder)
    with site.database.transaction() as session:
        fill_language(session)
        add_judgements(session, 5)
        imports.add_results(session, imports.read_files(peft_files()), "MetaMathQA")
        filled_estimates.attach_estimates(session)
        filled_estimates.run_out_of_memory(session, runs.get(session, 25))
        tuned = add_tuned_study(session)
        halving = dict.fromkeys(("full", "LoRA r=8", "head only"), (0.8, 0.82, 0.85, 0.86, 0.8, None))
        under_way = add_tuned_study(session, halving, how="halving", finals=False)
        trial = runs.trials_of(session, tuned)[0].id
    lab = fill_lab(site.database, folder, study_id=1)
    return (
        PAGES
        | lab
        | {
            "tuned study": f"/studies/{tuned}/conditions",
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
    )
