"""The sentences of findings, for pages, the API and, through it, the command line: one table of templates."""

from app.domain.data.findings import Example, Finding, FindingCode
from app.domain.data.images import HASH_BITS
from app.domain.data.previews import Preview
from app.words.data.data import FINDINGS, SPLITS
from app.words.data.preference_findings import PREFERENCE_FINDINGS
from app.words.data.tag_findings import TAG_FINDINGS, Template
from app.words.format import count, decimal, join_names, percent, share
from app.words.i18n import gettext as _
from app.words.i18n import marked, marked_plural, ngettext, stored

COMPARE_NEAR_DUPLICATES = marked(
    "Compare the pairs below: if they are duplicates, remove them from the file or split the rows differently."
)
IMAGE_FINDINGS: dict[FindingCode, Template] = {
    "broken-images": Template(
        marked_plural(
            "%(num)s row was left out: Vezna cannot decode the image in its column %(column)s, or it has more than 50 "
            "megapixels or 32 MiB (row %(row)s).",
            "%(num)s rows were left out: Vezna cannot decode the images in their column %(column)s, or they have more "
            "than 50 megapixels or 32 MiB (first: row %(row)s).",
        ),
        marked("Save them as PNG or JPEG; the examples give the reasons."),
    ),
    "skipped-files": Template(
        marked_plural(
            "%(num)s file of the archive was skipped, because Vezna does not read its format: %(endings)s.",
            "%(num)s files of the archive were skipped, because Vezna does not read their formats: %(endings)s.",
        ),
        marked("If there are images among them, save them as JPEG or PNG and upload the archive again."),
    ),
}
NEAR_LEAK_OF_IMAGES = Template(
    marked_plural(
        "%(num)s image of test or validation is a near-duplicate of a train image (their difference hashes differ in "
        "at most %(limit)s of %(bits)s bits, and their thumbnails have a correlation of at least %(correlation)s).",
        "%(num)s images of test or validation are near-duplicates of train images (their difference hashes differ in "
        "at most %(limit)s of %(bits)s bits, and their thumbnails have a correlation of at least %(correlation)s).",
    ),
    COMPARE_NEAR_DUPLICATES,
)
NEAR_LEAK_IN_SAMPLE_OF_IMAGES = Template(
    marked_plural(
        "%(num)s of %(held_out)s sampled images of test or validation is a near-duplicate of one of %(trained)s "
        "sampled train images (their difference hashes differ in at most %(limit)s of %(bits)s bits, and their "
        "thumbnails have a correlation of at least %(correlation)s).",
        "%(num)s of %(held_out)s sampled images of test or validation are near-duplicates of one of %(trained)s "
        "sampled train images (their difference hashes differ in at most %(limit)s of %(bits)s bits, and their "
        "thumbnails have a correlation of at least %(correlation)s).",
    ),
    COMPARE_NEAR_DUPLICATES,
)


PREVIEW_FINDINGS: dict[FindingCode, Template] = {
    "stop-outside-loss": Template(
        marked_plural(
            "%(num)s of %(rows)s has a reply whose stop token is outside the loss, so the model does not learn there "
            "to stop.",
            "%(num)s of %(rows)s have a reply whose stop token is outside the loss, so the model does not learn there "
            "to stop.",
        ),
        marked(
            "If max_length cuts the replies off, raise it. Otherwise the chat template attributes the stop token to "
            "the next message: put it inside {%% generation %%}, too."
        ),
    ),
    "empty-thought-learnt": Template(
        marked_plural(
            "%(num)s of %(rows)s has an empty <think></think> in the loss, so the model learns not to reason.",
            "%(num)s of %(rows)s have an empty <think></think> in the loss, so the model learns not to reason.",
        ),
        marked(
            "To keep its reasoning, write reasoning_content into these turns, or use a chat template that adds no "
            "empty block."
        ),
    ),
    "reasoning-left-out": Template(
        marked_plural(
            "The chat template leaves out the reasoning of earlier turns in %(num)s of %(rows)s, so the model does not "
            "learn it.",
            "The chat template leaves out the reasoning of earlier turns in %(num)s of %(rows)s, so the model does not "
            "learn it.",
        ),
        marked("To learn it, end a conversation after each such turn."),
    ),
}


_DROP_DUPLICATES = marked(
    "Drop duplicates when creating the dataset; the copy in test stays, else the one in validation."
)
_MERGE_LABELS = marked(
    "Correct the spelling in the file, or give both the same name in the mapping; if they differ in meaning, keep them."
)
_TEMPLATES: dict[FindingCode, Template] = {
    **TAG_FINDINGS,
    **PREFERENCE_FINDINGS,
    **IMAGE_FINDINGS,
    **PREVIEW_FINDINGS,
    "encoding": Template(
        marked_plural(
            "The file is not UTF-8 and was read as %(encoding)s, a guess from its bytes: %(num)s row of the column "
            "%(column)s has non-ASCII characters (row %(row)s).",
            "The file is not UTF-8 and was read as %(encoding)s, a guess from its bytes: %(num)s rows of the column "
            "%(column)s have non-ASCII characters (first: row %(row)s).",
        ),
        marked("Check the rows below: if characters are wrong, choose another encoding or save the file as UTF-8."),
    ),
    "control-characters": Template(
        marked_plural(
            "%(num)s row of the column %(column)s has invisible control characters, which become tokens (row %(row)s).",
            "%(num)s rows of the column %(column)s have invisible control characters, which become tokens (first: row "
            "%(row)s).",
        ),
        marked("Remove them from the file unless they carry meaning."),
    ),
    "formulas": Template(
        marked_plural(
            "%(num)s row of the column %(column)s starts like a spreadsheet formula (row %(row)s).",
            "%(num)s rows of the column %(column)s start like a spreadsheet formula (first: row %(row)s).",
        ),
        marked("Vezna treats them as text, but a spreadsheet that opens an export would execute them."),
    ),
    "very-long-field": Template(
        marked_plural(
            "%(num)s row has more than %(limit)s characters in the column %(column)s (row %(row)s).",
            "%(num)s rows have more than %(limit)s characters in the column %(column)s (first: row %(row)s).",
        ),
        marked("Check for a missing quotation mark. A model reads only the first max_length tokens."),
    ),
    "duplicate-keys": Template(
        marked_plural(
            "%(num)s row has a duplicate JSON key in the column %(column)s (%(keys)s; row %(row)s). As in most readers "
            "of JSON, its last value is kept.",
            "%(num)s rows have a duplicate JSON key in the column %(column)s (%(keys)s; first: row %(row)s). As in "
            "most readers of JSON, its last value is kept.",
        ),
        marked("If an earlier value is the right one, correct the file: each key may occur once in an object."),
    ),
    "empty-rows": Template(
        marked_plural(
            "%(num)s row was left out: its column %(column)s is empty (row %(row)s).",
            "%(num)s rows were left out: their column %(column)s is empty (first: row %(row)s).",
        ),
        marked("Fill them in or choose another column if these rows matter."),
    ),
    "broken-messages": Template(
        marked_plural(
            "%(num)s row was left out: its column %(column)s is not a list of messages with role and content (row "
            "%(row)s).",
            "%(num)s rows were left out: their column %(column)s is not a list of messages with role and content "
            "(first: row %(row)s).",
        ),
        marked("Write each conversation as a list of objects with role and content."),
    ),
    "no-assistant-turn": Template(
        marked_plural(
            "%(num)s row was left out: its column %(column)s has no assistant message to learn from, or an empty one "
            "(row %(row)s).",
            "%(num)s rows were left out: their column %(column)s has no assistant message to learn from, or an empty "
            "one (first: row %(row)s).",
        ),
        marked("Add the assistant's answers, with the role assistant."),
    ),
    "unsupported-chat": Template(
        marked_plural(
            "%(num)s row has %(column)s in a form that Vezna does not read; without it, the model would learn "
            "something else (row %(row)s).",
            "%(num)s rows have %(column)s in a form that Vezna does not read; without it, the model would learn "
            "something else (first: row %(row)s).",
        ),
        marked(
            "Leave these rows out, or write these parts as OpenAI's API has them. For a system prompt or a history "
            "beside prompts, choose the format messages. Remove columns that do not matter."
        ),
    ),
    "unread-chat-fields": Template(
        marked_plural(
            "%(num)s row has messages with the field %(column)s, which Vezna does not read (row %(row)s).",
            "%(num)s rows have messages with the field %(column)s, which Vezna does not read (first: row %(row)s).",
        ),
        marked("If the model needs it, write it into the content of the messages."),
    ),
    "not-a-number": Template(
        marked_plural(
            "%(num)s row was left out: its label in the column %(column)s is NaN or infinite (row %(row)s).",
            "%(num)s rows were left out: their label in the column %(column)s is NaN or infinite (first: row %(row)s).",
        ),
        marked("Write their labels into the file. If NaN is a class, give it a name in the mapping."),
    ),
    "duplicates": Template(
        marked_plural(
            "%(num)s row duplicates an earlier row of its split (white space is ignored).",
            "%(num)s rows duplicate an earlier row of their split (white space is ignored).",
        ),
        marked("Drop duplicates when creating the dataset, unless their frequency is meant."),
    ),
    "contradictions": Template(
        marked_plural("%(num)s input occurs with different labels.", "%(num)s inputs occur with different labels."),
        marked("Correct the labels in the file: no model can predict both."),
    ),
    "leak": Template(
        marked_plural(
            "Test leakage: %(num)s of %(rows)s of the test split (%(share)s) also occurs in train or validation; the "
            "score is inflated.",
            "Test leakage: %(num)s of %(rows)s of the test split (%(share)s) also occur in train or validation; the "
            "score is inflated.",
        ),
        _DROP_DUPLICATES,
    ),
    "shared-groups": Template(
        marked_plural(
            "The splits share %(groups)s: %(num)s of %(rows)s of the %(split)s split (%(share)s) has a group that also "
            "occurs in an earlier split (%(labels)s). A model may recognise the group, which inflates the score.",
            "The splits share %(groups)s: %(num)s of %(rows)s of the %(split)s split (%(share)s) have a group that "
            "also occurs in an earlier split (%(labels)s). A model may recognise the group, which inflates the score.",
        ),
        marked("Choose random splits, which keep each group in one split, or move these groups in the file."),
    ),
    "near-leak": Template(
        marked_plural(
            "%(num)s row of test or validation is a near-duplicate of a train row (they share at least %(shared)s of "
            "their word trigrams).",
            "%(num)s rows of test or validation are near-duplicates of train rows (they share at least %(shared)s of "
            "their word trigrams).",
        ),
        COMPARE_NEAR_DUPLICATES,
    ),
    "too-few-rows": Template(
        marked_plural(
            "The dataset has %(num)s row; it needs at least %(limit)s.",
            "The dataset has %(num)s rows; it needs at least %(limit)s.",
        ),
        marked("Add rows."),
    ),
    "too-few-groups": Template(
        marked_plural(
            "All rows that are to be split belong to one group, which stays in one split: %(limit)s splits need as "
            "many groups.",
            "All rows that are to be split belong to %(num)s groups, each of which stays in one split: %(limit)s "
            "splits need as many groups.",
        ),
        marked("Choose a column with more groups, or none. Equal inputs join their groups."),
    ),
    "empty-split": Template(
        marked("The %(split)s split is empty."), marked("Choose other splits, or a larger share for this one.")
    ),
    "one-class": Template(
        marked("All rows have the label %(labels)s, so there is nothing to classify."),
        marked("Choose another label column, or add rows with other labels."),
    ),
    "too-many-labels": Template(
        marked_plural(
            "There is %(num)s distinct label; the limit is %(limit)s.",
            "There are %(num)s distinct labels; the limit is %(limit)s.",
        ),
        marked("Check whether this is the label column."),
    ),
    "label-once": Template(
        marked_plural(
            "The label %(labels)s occurs in one row only, so it cannot be both trained and tested.",
            "%(num)s labels (%(labels)s) occur in one row only, so they cannot be both trained and tested.",
        ),
        marked("Add rows with these labels, or remove them."),
    ),
    "label-not-trained": Template(
        marked_plural(
            "The label %(labels)s does not occur in train, so the model cannot learn it.",
            "%(num)s labels (%(labels)s) do not occur in train, so the model cannot learn them.",
        ),
        marked("Choose other splits."),
    ),
    "label-not-tested": Template(
        marked_plural(
            "The label %(labels)s does not occur in test, so the score says nothing about it.",
            "%(num)s labels (%(labels)s) do not occur in test, so the score says nothing about them.",
        ),
        marked("Add rows with these labels, or choose other splits."),
    ),
    "labels-alike": Template(marked("Some labels differ in white space only: %(alike)s."), _MERGE_LABELS),
    "imbalance": Template(
        marked("Imbalanced labels: %(common)s has %(common_rows)s (%(share)s), %(rare)s has %(rare_rows)s."),
        marked("Always predicting %(common)s would be right in %(share)s: judge by macro-F1 beside accuracy."),
    ),
}
_INVISIBLE_LABELS = Template(
    marked_plural(
        "%(num)s label contains invisible control characters: %(labels)s.",
        "%(num)s labels contain invisible control characters: %(labels)s.",
    ),
    marked("Give them other names in the mapping, or correct the file."),
)
_SMALL_TEST_SPLIT = Template(
    marked_plural(
        "The test split has %(num)s row: only large differences will be significant.",
        "The test split has %(num)s rows: only large differences will be significant.",
    ),
    marked("Add rows, or give the test split a larger share."),
)
_VALIDATION_LEAKAGE = Template(
    marked_plural(
        "Validation leakage: %(num)s row of the validation split also occurs in train.",
        "Validation leakage: %(num)s rows of the validation split also occur in train.",
    ),
    _DROP_DUPLICATES,
)
_NEAR_LEAK_IN_SAMPLE = Template(
    marked_plural(
        "%(num)s of %(held_out)s sampled rows of test or validation is a near-duplicate of one of %(trained)s sampled "
        "train rows (they share at least %(shared)s of their word trigrams).",
        "%(num)s of %(held_out)s sampled rows of test or validation are near-duplicates of one of %(trained)s sampled "
        "train rows (they share at least %(shared)s of their word trigrams).",
    ),
    COMPARE_NEAR_DUPLICATES,
)
_DIFFER_IN_CASE = Template(marked("Some labels differ in upper and lower case only: %(alike)s."), _MERGE_LABELS)

_DIFFER_IN_TYPE = Template(
    marked("Some labels differ in type only and became one label each: %(alike)s."),
    marked("If they are different classes, write them as different texts; else write them all as the same type."),
)


def with_message(finding: Finding) -> Finding:
    template, values = _template(finding), _values(finding)
    if isinstance(template.message, str):
        message = _(template.message, **values)
    else:
        message = ngettext(*template.message, finding.count, **values)
    return finding.model_copy(update={"message": message, "remedy": _(template.remedy, **values)})


def with_messages(preview: Preview | None) -> Preview | None:
    """A preview whose findings have their sentences."""
    return preview and preview.model_copy(update={"findings": [with_message(one) for one in preview.findings]})


def why_unavailable(message: str, blocked_by: Finding | None) -> str:
    """Why a dataset version failed or is blocked."""
    return stored(message) or (with_message(blocked_by).message if blocked_by else "")


def finding_title(finding: Finding) -> str:
    return _(FINDINGS[finding.code])


def place_of(example: Example) -> str:
    """File, row and split of an example row."""
    parts = [
        example.file,
        _("row %(number)s", number=count(example.row)) if example.row is not None else "",
        _(SPLITS[example.split]) if example.split else "",
    ]
    return ", ".join(part for part in parts if part)


def _template(finding: Finding) -> Template:
    details = finding.details
    match finding.code:
        case "control-characters" if details.labels:
            return _INVISIBLE_LABELS
        case "too-few-rows" if details.split:
            return _SMALL_TEST_SPLIT
        case "leak" if details.split == "validation":
            return _VALIDATION_LEAKAGE
        case "near-leak" if details.limit:
            return NEAR_LEAK_IN_SAMPLE_OF_IMAGES if details.held_out_rows else NEAR_LEAK_OF_IMAGES
        case "near-leak" if details.held_out_rows:
            return _NEAR_LEAK_IN_SAMPLE
        case "labels-alike" if details.differ_by == "capital-letters":
            return _DIFFER_IN_CASE
        case "labels-alike" if details.differ_by == "type":
            return _DIFFER_IN_TYPE
        case code:
            return _TEMPLATES[code]


def _values(finding: Finding) -> dict[str, str]:
    details = finding.details
    labels, label_rows = details.labels or [], details.label_rows or []
    common = label_rows[0] if label_rows else finding.count
    return {
        "num": count(finding.count),
        "column": finding.column,
        "row": count(finding.examples[0].row if finding.examples else None),
        "encoding": details.encoding or "",
        "scheme": details.scheme or "",
        "limit": count(details.limit),
        "bits": str(HASH_BITS),
        "correlation": decimal(details.shared, 2),
        "split": _(SPLITS[details.split]) if details.split else "",
        "rows": _rows(details.of_rows or 0),
        "share": share(common, details.of_rows),
        "shared": percent(details.shared, 0),
        "held_out": count(details.held_out_rows),
        "trained": count(details.train_rows),
        "keys": ", ".join(labels),
        "groups": ngettext("%(num)s group", "%(num)s groups", details.groups or 0, num=count(details.groups)),
        "labels": ", ".join(labels) + (", …" if (details.groups or finding.count) > len(labels) else ""),
        "endings": ", ".join(f"{label} ({count(rows)})" for label, rows in zip(labels, label_rows, strict=False))
        + (", …" if sum(label_rows) < finding.count else ""),
        "alike": "; ".join(map(join_names, details.alike or [])),
        "common": labels[0] if labels else "",
        "rare": labels[-1] if labels else "",
        "common_rows": _rows(common),
        "rare_rows": _rows(label_rows[-1] if label_rows else 0),
    }


def _rows(number: int) -> str:
    return ngettext("%(num)s row", "%(num)s rows", number, num=count(number))


FILTERS = (with_message, why_unavailable, finding_title, place_of)
"""What templates may use, under their own names."""
