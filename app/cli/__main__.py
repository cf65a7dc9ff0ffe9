"""`python -m app.cli` is `vezna`."""

from app.cli.program import main

main()
