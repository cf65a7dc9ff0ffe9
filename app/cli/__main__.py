"""`python -m app.cli` is `vezna`."""

from app.cli import main

main()
