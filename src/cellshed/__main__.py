"""python -m cellshed."""

from cellshed.cli import main

main()
