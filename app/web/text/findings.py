"""The sentences of findings: what was found, and what to do about it."""

from typing import NamedTuple

from app.domain.data.findings import Finding, FindingCode
from app.web.format import count, join_names, percent, share
from app.web.i18n import gettext as _
from app.web.i18n import marked, marked_plural, ngettext
from app.web.text.data import SPLITS


class _Words(NamedTuple):
    """What was found, for one and for several where that makes a difference; and what to do."""

    found: str | tuple[str, str]
    remedy: str


_REPEATED = marked(
    "Choose that repeated rows are left out: of those that ask the same one stays, in test if one is there."
)
_NEARLY = marked("Look whether they are the same thing twice; if so, leave them out of the file or make other splits.")
_RENAME = marked(
    "Make them the same in the file, or give both one name in the mapping; leave them if they differ in meaning."
)
_WORDS: dict[FindingCode, _Words] = {
    "encoding": _Words(
        marked_plural(
            "%(num)s row has letters beyond ASCII in the column %(column)s, and the file is not UTF-8: it was read as "
            "%(encoding)s, by what its bytes look like, first row %(row)s.",
            "%(num)s rows have letters beyond ASCII in the column %(column)s, and the file is not UTF-8: it was read "
            "as %(encoding)s, by what its bytes look like, first row %(row)s.",
        ),
        marked(
            "Look at these rows: if letters are wrong, read the file again with another encoding, or save it as UTF-8."
        ),
    ),
    "control-characters": _Words(
        marked_plural(
            "%(num)s row has control characters in the column %(column)s, which cannot be seen and are tokens all the "
            "same, first row %(row)s.",
            "%(num)s rows have control characters in the column %(column)s, which cannot be seen and are tokens all "
            "the same, first row %(row)s.",
        ),
        marked("Remove them unless they are meant."),
    ),
    "formulas": _Words(
        marked_plural(
            "%(num)s row begins like a formula in the column %(column)s, first row %(row)s.",
            "%(num)s rows begin like a formula in the column %(column)s, first row %(row)s.",
        ),
        marked("Vezna takes them as texts; a spreadsheet that opens an export of them would run them."),
    ),
    "very-long-field": _Words(
        marked_plural(
            "%(num)s row has more than %(limit)s characters in the column %(column)s, first row %(row)s.",
            "%(num)s rows have more than %(limit)s characters in the column %(column)s, first row %(row)s.",
        ),
        marked(
            "A model reads its beginning alone, up to max_length: look whether a quotation mark is missing, or cut it "
            "up."
        ),
    ),
    "empty-rows": _Words(
        marked_plural(
            "%(num)s row with nothing in the column %(column)s, first row %(row)s; left out.",
            "%(num)s rows with nothing in the column %(column)s, first row %(row)s; left out.",
        ),
        marked("Nothing is to be done if they may be missing; else fill them in, or choose another column."),
    ),
    "broken-messages": _Words(
        marked_plural(
            "%(num)s row whose %(column)s is no list of turns with role and content, first row %(row)s; left out.",
            "%(num)s rows whose %(column)s is no list of turns with role and content, first row %(row)s; left out.",
        ),
        marked("Write each conversation as a list of objects with role and content."),
    ),
    "no-assistant-turn": _Words(
        marked_plural(
            "%(num)s row whose %(column)s has no turn of an assistant, or an empty one, to learn from, first row "
            "%(row)s; left out.",
            "%(num)s rows whose %(column)s has no turn of an assistant, or an empty one, to learn from, first row "
            "%(row)s; left out.",
        ),
        marked("Add what the assistant should say; its role is called assistant."),
    ),
    "duplicates": _Words(
        marked_plural(
            "%(num)s row repeats an earlier one of the same split, but for white space.",
            "%(num)s rows repeat an earlier one of the same split, but for white space.",
        ),
        marked("Nothing is to be done if that is how often they come; else choose that repeated rows are left out."),
    ),
    "contradictions": _Words(
        marked_plural(
            "%(num)s text stands under more than one label.", "%(num)s texts stand under more than one label."
        ),
        marked("Decide for one of them in the file; no model can learn both."),
    ),
    "leak": _Words(
        marked_plural(
            "%(num)s of %(rows)s of the test split (%(share)s) is in train or validation too: what is known by heart "
            "counts as learnt.",
            "%(num)s of %(rows)s of the test split (%(share)s) are in train or validation too: what is known by heart "
            "counts as learnt.",
        ),
        _REPEATED,
    ),
    "near-leak": _Words(
        marked_plural(
            "%(num)s row of test or validation is nearly in train (at least %(shared)s of their runs of three words "
            "are shared).",
            "%(num)s rows of test or validation are nearly in train (at least %(shared)s of their runs of three words "
            "are shared).",
        ),
        _NEARLY,
    ),
    "too-few-rows": _Words(
        marked_plural(
            "There is %(num)s row to learn from and to be tested on; at least %(limit)s are needed.",
            "There are %(num)s rows to learn from and to be tested on; at least %(limit)s are needed.",
        ),
        marked("Bring more rows."),
    ),
    "empty-split": _Words(
        marked("No row is in the %(split)s split."), marked("Choose other splits, or a larger share for it.")
    ),
    "one-class": _Words(
        marked("All rows have one label, %(labels)s: there is nothing to tell apart."),
        marked("Choose another column for the label, or bring other rows."),
    ),
    "too-many-labels": _Words(
        marked_plural(
            "There is %(num)s different label, and at most %(limit)s are learnt.",
            "There are %(num)s different labels, and at most %(limit)s are learnt.",
        ),
        marked("Is it the right column?"),
    ),
    "label-once": _Words(
        marked_plural(
            "The label %(labels)s comes once: it is either learnt or tested, never both.",
            "%(num)s labels (%(labels)s) each come once: it is either learnt or tested, never both.",
        ),
        marked("Bring more rows of it, or leave it out."),
    ),
    "label-not-trained": _Words(
        marked_plural(
            "The label %(labels)s comes in no row of the train split, so nothing is learnt of it.",
            "%(num)s labels (%(labels)s) each come in no row of the train split, so nothing is learnt of it.",
        ),
        marked("Choose other splits."),
    ),
    "label-not-tested": _Words(
        marked_plural(
            "The label %(labels)s comes in no row of the test split: nothing will be known of it.",
            "%(num)s labels (%(labels)s) each come in no row of the test split: nothing will be known of it.",
        ),
        marked("Bring more rows of it, or choose other splits."),
    ),
    "labels-alike": _Words(marked("Labels differ by white space only: %(alike)s."), _RENAME),
    "imbalance": _Words(
        marked("The label %(common)s has %(common_rows)s (%(share)s), and %(rare)s has %(rare_rows)s."),
        marked("Whoever always says %(common)s is right in %(share)s: look at macro-F1 beside accuracy."),
    ),
}
_ODD_LABELS = _Words(
    marked_plural(
        "%(num)s label has characters that cannot be shown: %(labels)s.",
        "%(num)s labels have characters that cannot be shown: %(labels)s.",
    ),
    marked("Give them other names in the mapping, or mend the file."),
)
_FEW_TESTED = _Words(
    marked_plural(
        "The test split has %(num)s row: only large differences will be told apart.",
        "The test split has %(num)s rows: only large differences will be told apart.",
    ),
    marked("Bring more rows, or give it a larger share."),
)
_VALIDATION_LEAKS = _Words(
    marked_plural(
        "%(num)s row of the validation split is in train too.",
        "%(num)s rows of the validation split are in train too.",
    ),
    _REPEATED,
)
_NEARLY_OF_SOME = _Words(
    marked_plural(
        "%(num)s row of test or validation, of %(held_out)s that were looked at beside %(trained)s of train, is "
        "nearly in train (at least %(shared)s of their runs of three words are shared).",
        "%(num)s rows of test or validation, of %(held_out)s that were looked at beside %(trained)s of train, are "
        "nearly in train (at least %(shared)s of their runs of three words are shared).",
    ),
    _NEARLY,
)
_DIFFER_BY_LETTERS = _Words(marked("Labels differ by capital letters only: %(alike)s."), _RENAME)


def in_words(found: Finding) -> Finding:
    """With its sentences; one that was stored as sentences keeps them."""
    if found.message:
        return found
    words, values = _words_of(found), _values(found)
    if isinstance(words.found, str):
        message = _(words.found, **values)
    else:
        message = ngettext(*words.found, found.count, **values)
    return found.model_copy(update={"message": message, "remedy": _(words.remedy, **values)})


def why_none(message: str, blocked_by: Finding | None) -> str:
    """Why there is no dataset: what its row says, or the finding that it is blocked by."""
    return message or (in_words(blocked_by).message if blocked_by else "")


def _words_of(found: Finding) -> _Words:
    details = found.details
    match found.code:
        case "control-characters" if details.labels:
            return _ODD_LABELS
        case "too-few-rows" if details.split:
            return _FEW_TESTED
        case "leak" if details.split == "validation":
            return _VALIDATION_LEAKS
        case "near-leak" if details.held_out_rows:
            return _NEARLY_OF_SOME
        case "labels-alike" if details.differ_by == "capital-letters":
            return _DIFFER_BY_LETTERS
        case code:
            return _WORDS[code]


def _values(found: Finding) -> dict[str, str]:
    """What its sentences may name."""
    details = found.details
    labels, label_rows = details.labels or [], details.label_rows or []
    common = label_rows[0] if label_rows else found.count
    return {
        "num": count(found.count),
        "column": found.column,
        "row": count(found.examples[0].row if found.examples else None),
        "encoding": details.encoding or "",
        "limit": count(details.limit),
        "split": _(SPLITS[details.split]) if details.split else "",
        "rows": _rows(details.of_rows or 0),
        "share": share(common, details.of_rows),
        "shared": percent(details.shared, 0),
        "held_out": count(details.held_out_rows),
        "trained": count(details.train_rows),
        "labels": ", ".join(labels) + (", …" if found.count > len(labels) else ""),
        "alike": "; ".join(map(join_names, details.alike or [])),
        "common": labels[0] if labels else "",
        "rare": labels[-1] if labels else "",
        "common_rows": _rows(common),
        "rare_rows": _rows(label_rows[-1] if label_rows else 0),
    }


def _rows(number: int) -> str:
    return ngettext("%(num)s row", "%(num)s rows", number, num=count(number))
