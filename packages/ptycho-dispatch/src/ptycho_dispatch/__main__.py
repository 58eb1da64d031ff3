"""Where `ptycho` begins, and `python -m ptycho_dispatch`: it hears signals before anything else is loaded."""

import sys

try:
    from ptycho_dispatch.signals import HEARING
except KeyboardInterrupt:  # that takes some milliseconds as well; nothing is there yet that could be lost
    import os

    os.write(2, b"ptycho: interrupted\n")
    os._exit(130)

__all__ = ["main"]


def main(*before: str) -> int:
    """Run the command that the words of this process name; its exit code.

    Args:
        before: words to be put before them.
    """
    HEARING.listen()
    sys.argv[1:1] = before
    from ptycho_dispatch import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
