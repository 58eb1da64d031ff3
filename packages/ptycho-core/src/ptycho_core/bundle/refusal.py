"""How a bundle is refused: one line with what was found, what was expected and what to type next."""

from __future__ import annotations

from ptycho_config.errors import BundleError, BundleNotFoundError
from ptycho_config.plaintext import excerpt

__all__ = ["COPY_AGAIN", "EXPORT_AGAIN", "TRAIN_AGAIN", "absent", "refused"]

FINDING = "BUNDLE-001"
TRAIN_AGAIN = "Train again: `ptycho train --train-data-file SCAN --output-dir DIR`."
EXPORT_AGAIN = "Export the network again: `ptycho export BUNDLE --output FILE`."
COPY_AGAIN = "Copy the bundle again from where it was written, or train again with `ptycho train`."


def refused(source: str, found: str, expected: str, then: str = COPY_AGAIN) -> BundleError:
    """Make the error that refuses a bundle; texts that come from the file lose their control characters.

    Args:
        source: the file or directory.
        found: what is wrong with it.
        expected: what a good bundle has there.
        then: the next thing to type, a sentence.
    """
    text = f"{excerpt(source)}: {excerpt(found, 240)}. Expected {expected}. {then}"
    return BundleError(text, finding=FINDING)


def absent(source: str, found: str) -> BundleNotFoundError:
    """Make the error for a place where no bundle is: no rule is at stake, so it names no finding."""
    expected = "Expected the `wts.h5.zip` of a training run or the directory that holds it."
    return BundleNotFoundError(f"{excerpt(source)}: {found}. {expected} {TRAIN_AGAIN}")
