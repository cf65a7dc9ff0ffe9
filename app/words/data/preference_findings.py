"""The sentences of findings about preference pairs, and about test items that have a part in common."""

from app.domain.data.findings import FindingCode
from app.words.data.tag_findings import Template
from app.words.i18n import marked, marked_plural

_MATCH_LENGTHS = marked(
    "Compare every arm with the baseline of the answer length. Pairs of about equal length teach what else makes an "
    "answer better."
)
PREFERENCE_FINDINGS: dict[FindingCode, Template] = {
    "no-prompt": Template(
        marked_plural(
            "%(num)s row was left out: it has no prompt, and its answers do not begin alike (row %(row)s).",
            "%(num)s rows were left out: they have no prompt, and their answers do not begin alike (first: row "
            "%(row)s).",
        ),
        marked("Assign a column as the prompt, or let both answers begin with it."),
    ),
    "broken-pairs": Template(
        marked_plural(
            "%(num)s row was left out: after its prompt, chosen and rejected are not one answer each (row %(row)s).",
            "%(num)s rows were left out: after their prompt, chosen and rejected are not one answer each (first: row "
            "%(row)s).",
        ),
        marked("Let each end in one answer; in conversations, one message with the role assistant."),
    ),
    "equal-answers": Template(
        marked_plural(
            "%(num)s row was left out: its chosen and its rejected answer are equal (row %(row)s).",
            "%(num)s rows were left out: their chosen and their rejected answer are equal (first: row %(row)s).",
        ),
        marked("Remove these rows, or correct one of the answers: nothing is preferred in them."),
    ),
    "guessed-prompts": Template(
        marked_plural(
            "The prompt of %(num)s pair is the words that both answers begin with, which may be part of the answers; "
            "then it has another prompt than the same question elsewhere, also across splits (row %(row)s).",
            "The prompts of %(num)s pairs are the words that both answers begin with, which may be part of the "
            "answers; then pairs of one question have different prompts, also across splits (first: row %(row)s).",
        ),
        marked("Assign a column as the prompt, or end each prompt with the line “Assistant:” of a dialogue."),
    ),
    "contradicting-pairs": Template(
        marked_plural(
            "%(num)s pair contradicts another one: the same two answers to the same prompt, the other one chosen (row "
            "%(row)s).",
            "%(num)s pairs contradict each other: the same two answers to the same prompt, once the one and once the "
            "other chosen (first: row %(row)s).",
        ),
        marked("Keep the preference of the majority, or remove these pairs: together they teach nothing."),
    ),
    "shared-prompts": Template(
        marked_plural(
            "%(num)s test pair (%(share)s) has its prompt in common with another one. Their scores depend on each "
            "other, so intervals count them as one cluster (row %(row)s).",
            "%(num)s test pairs (%(share)s) have their prompt in common with others. Their scores depend on each "
            "other, so intervals count pairs of one prompt as one cluster (first: row %(row)s).",
        ),
        marked("For narrower intervals, add test pairs of other prompts."),
    ),
    "shared-passages": Template(
        marked_plural(
            "%(num)s test query (%(share)s) has its passage in common with another one. Its score depends on the "
            "other's, so the intervals of a verdict are too narrow (row %(row)s).",
            "%(num)s test queries (%(share)s) have their passage in common with others. Their scores depend on each "
            "other, so the intervals of a verdict are too narrow (first: row %(row)s).",
        ),
        marked("Choose the passage column as the group: intervals then count queries of one passage as one cluster."),
    ),
    "longer-chosen": Template(
        marked_plural(
            "Length bias: the chosen answer is the longer one in %(num)s of %(rows)s (%(share)s), so a model can "
            "score as much by preferring long answers.",
            "Length bias: the chosen answer is the longer one in %(num)s of %(rows)s (%(share)s), so a model can "
            "score as much by preferring long answers.",
        ),
        _MATCH_LENGTHS,
    ),
    "shorter-chosen": Template(
        marked_plural(
            "Length bias: the chosen answer is the shorter one in %(num)s of %(rows)s (%(share)s), so a model can "
            "score as much by preferring short answers.",
            "Length bias: the chosen answer is the shorter one in %(num)s of %(rows)s (%(share)s), so a model can "
            "score as much by preferring short answers.",
        ),
        _MATCH_LENGTHS,
    ),
}
