"""The sentences of findings about the tokens in the loss, which depend on the base model."""

from app.domain.data.findings import FindingCode
from app.words.data.tag_findings import Template
from app.words.i18n import marked, marked_plural

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
