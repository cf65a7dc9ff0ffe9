"""The features: what the core can do without, each in one package here and, if it has work for a worker, below
`worker.features`."""

FEATURES = (
    "agents",
    "elsewhere",
    "judging",
    "lab",
    "openai_jobs",
    "quotas",
    "recipes",
    "second_factor",
    "serving",
    "shipping",
    "single_sign_on",
    "webhooks",
)
