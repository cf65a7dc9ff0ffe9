"""Forms: what was typed, as it was typed, and the spec that it means. The name of an input is the path of its field."""
