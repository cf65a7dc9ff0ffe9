"""Several LoRA trainings on one frozen base model, in one process."""
