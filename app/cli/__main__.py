"""`python -m app.cli` is `opcod`."""

from app.cli.main import main

main()
