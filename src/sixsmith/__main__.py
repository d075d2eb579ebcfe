"""`python -m sixsmith`."""

from sixsmith.cli import main

main()
