"""`python -m sixsmith.cli`."""

from sixsmith.cli import main

main()
