"""The Lab: questions about LoRA and PEFT, and when to ask them again."""
