"""Fine-tuning itself, from a job to a result. Imports only `app.domain` and the ML libraries."""
