"""`python tests/faults`: faults of every class put into what the project reads, one process each."""

import sys

from injection.command import main

if __name__ == "__main__":
    sys.exit(main())
