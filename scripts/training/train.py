"""Call `ptycho train` with the words of this command line, for programs that know the script's path."""

from __future__ import annotations

import sys

from ptycho_dispatch.__main__ import main

if __name__ == "__main__":
    sys.exit(main("train"))
