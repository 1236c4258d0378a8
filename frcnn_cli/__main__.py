"""`python -m frcnn_cli` runs the command `frcnn`."""

from frcnn_cli.cli import main

if __name__ == "__main__":
    main()
