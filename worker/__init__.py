"""The worker: answers the doorbell, supervises a trainer process for each run, and holds the engine."""
