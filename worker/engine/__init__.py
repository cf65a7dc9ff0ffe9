"""The subject itself: one fine-tuning, from a job to a result. Knows `app.domain` and the ML libraries only."""
