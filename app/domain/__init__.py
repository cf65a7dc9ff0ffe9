"""Rules without I/O: what a run, a study, a number and a verdict are. Imports pydantic and numpy only."""
