"""The questions of the Lab (docs/lab.md)."""
