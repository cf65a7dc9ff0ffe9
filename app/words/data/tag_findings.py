"""The sentences of findings about words and their tags."""

from typing import NamedTuple

from app.domain.data.findings import FindingCode
from app.words.i18n import marked, marked_plural


class Template(NamedTuple):
    """A sentence, in the singular and the plural where it counts something, and what to do."""

    message: str | tuple[str, str]
    remedy: str


TAG_FINDINGS: dict[FindingCode, Template] = {
    "broken-words": Template(
        marked_plural(
            "%(num)s row was left out: its column %(column)s is not a list of words, or has an empty word (row "
            "%(row)s).",
            "%(num)s rows were left out: their column %(column)s is not a list of words, or has an empty word (first: "
            "row %(row)s).",
        ),
        marked('Write each as a list, ["Ada", "lives"], or as words with spaces between them.'),
    ),
    "tags-mismatch": Template(
        marked_plural(
            "%(num)s row was left out: it does not have one tag in the column %(column)s for each word (row %(row)s).",
            "%(num)s rows were left out: they do not have one tag in the column %(column)s for each word (first: row "
            "%(row)s).",
        ),
        marked("Correct the words or the tags of these rows; the examples show both numbers."),
    ),
    "broken-tags": Template(
        marked_plural(
            "%(num)s row was left out: a tag I-TYPE in its column %(column)s follows neither B-TYPE nor I-TYPE (row "
            "%(row)s).",
            "%(num)s rows were left out: a tag I-TYPE in their column %(column)s follows neither B-TYPE nor I-TYPE "
            "(first: row %(row)s).",
        ),
        marked(
            "Convert the tags to IOB2, where the first word of every entity has the tag B-TYPE. Vezna converts IOB1 "
            "itself, but not mixed with another scheme."
        ),
    ),
    "tag-scheme": Template(
        marked_plural(
            "%(num)s tag is of another scheme than IOB2: %(labels)s.",
            "%(num)s tags are of another scheme than IOB2: %(labels)s.",
        ),
        marked(
            "Write the tags as IOB2: B-TYPE for the first word of an entity, I-TYPE for its other words, and O for all "
            "words outside of entities; label_names (--label-name _=O) renames tags. Vezna converts IOB1, IOBES and "
            "BILOU itself, if every row follows one of them."
        ),
    ),
    "tags-converted": Template(
        marked_plural(
            "The tags in the column %(column)s follow the scheme %(scheme)s. The dataset has them as IOB2, which "
            "changes them in %(num)s row (row %(row)s).",
            "The tags in the column %(column)s follow the scheme %(scheme)s. The dataset has them as IOB2, which "
            "changes them in %(num)s rows (first: row %(row)s).",
        ),
        marked("Compare the examples, which show tags before and after: the entities stay the same."),
    ),
    "tags-are-numbers": Template(
        marked_plural(
            "The tag is a number (%(labels)s), so every word counts as an entity of its own.",
            "The %(num)s tags are numbers (%(labels)s), so every word counts as an entity of its own.",
        ),
        marked(
            "Write the names into the file, or name the numbers over REST (label_names) or by vezna datasets add "
            "--label-name 1=B-PER; the page has no fields for it."
        ),
    ),
}
