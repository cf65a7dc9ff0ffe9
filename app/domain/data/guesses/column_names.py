"""Usual names of columns, by which guesses are made."""

from app.domain.data.guesses.guessed_names import SPLIT_COLUMNS
from app.domain.data.guesses.mapping import Role

ROLE_NAMES: dict[Role, tuple[str, ...]] = {
    "text": ("text", "sentence", "review", "headline", "content", "document", "article", "comment", "tweet", "body"),
    "label": (
        *("label", "labels", "class", "category", "topic", "target", "sentiment", "intent", "label_text"),
        *("rating", "stars", "polarity", "emotion", "stance"),
    ),
    "tokens": ("tokens", "words", "sentence_tokens"),
    "tags": ("tags", "ner_tags", "ner", "labels", "pos_tags", "upos", "pos", "chunk_tags", "tag"),
    "prompt": ("prompt", "instruction", "question", "query", "source", "input"),
    "context": ("context", "input", "passage"),
    "completion": ("completion", "output", "response", "answer", "target", "summary"),
    "messages": ("messages", "conversations", "conversation", "dialog"),
    "query": ("query", "anchor", "question"),
    "passage": ("passage", "positive", "document", "context"),
    "chosen": ("chosen", "preferred", "chosen_response", "response_chosen", "preferred_output"),
    "rejected": ("rejected", "dispreferred", "rejected_response", "response_rejected", "non_preferred_output"),
    "image": ("image", "img", "picture", "photo", "pixels"),
}
"""Usual names of columns, the likeliest first."""
METADATA_WORDS = {
    *("id", "ids", "uid", "uuid", "guid", "index", "idx", "key", "hash", "url", "uri", "link", "path", "file"),
    *("date", "datetime", "day", "month", "year", "time", "timestamp", "created", "updated", "posted"),
    *("lang", "language", "source", "domain", "license", "author", "user", "username"),
    *SPLIT_COLUMNS,
}
"""A column with one of these words in its name is no label, however few values it has."""
