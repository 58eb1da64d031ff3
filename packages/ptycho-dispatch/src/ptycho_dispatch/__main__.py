"""Lets `python -m ptycho_dispatch` do what `ptycho` does."""

import sys

from ptycho_dispatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
