"""What the Lab computes with weights: on the CPU, in float32, of small base models."""
