"""The phases of a run in words."""

from app.words.i18n import marked

PHASE_LABELS = {
    "queue": marked("queue"),
    "start": marked("start"),
    "download": marked("download"),
    "load": marked("load"),
    "tokenize": marked("tokenize"),
    "baseline": marked("baseline"),
    "train": marked("train"),
    "evaluate": marked("evaluate"),
    "save": marked("save"),
}
"""In the order in which a run goes through them."""
PHASE_HEADINGS = {
    "queue": marked("Queued"),
    "start": marked("Starting"),
    "download": marked("Downloading the base model"),
    "load": marked("Loading the base model"),
    "tokenize": marked("Tokenizing"),
    "baseline": marked("Evaluating the base model"),
    "train": marked("Training"),
    "evaluate": marked("Evaluating"),
    "save": marked("Saving"),
}
CLOCK_LABELS = {
    "start": marked("start: process and libraries"),
    "download": marked("download the base model (not in the sum)"),
    "load": marked("load the base model"),
    "tokenize": marked("tokenize"),
    "baseline": marked("evaluate the base model"),
    "cache": marked("cache frozen-layer activations"),
    "compile": marked("compile the blocks"),
    "forward": marked("train: forward"),
    "backward": marked("train: backward"),
    "optimizer": marked("train: optimizer"),
    "data": marked("train: batches and other"),
    "ledger": marked("train: first step, and steps whose memory is recorded"),
    "evaluate": marked("evaluate"),
    "save": marked("save"),
    "audit": marked("audit"),
    "weight_delta": marked("weight delta analysis"),
}
"""The fields of `Clocks` in chronological order."""
