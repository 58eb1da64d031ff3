"""TensorFlow and Keras, imported without their chatter. Every module of this core takes them from here.

TensorFlow writes notes about processors, CUDA libraries and XLA to file descriptor 2, where no filter of
Python's reaches them. What it writes while it is imported is kept from the terminal and given to the log,
as `quietly` does for whatever else would disturb.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ptycho_config.errors import BackendUnavailableError

__all__ = ["check_keras", "hints_to_log", "keras", "quietly", "tf"]

logger = logging.getLogger("ptycho.tensorflow")
#: The attribute of a log record that keeps it from the screen; the command line's log knows it.
_FILE_ONLY = {"ptycho_file_only": True}
_STDERR = 2


@contextmanager
def quietly() -> Iterator[None]:
    """Give the log what is written to file descriptor 2 meanwhile; where an error ends it, to stderr.

    Lines are logged at INFO, for the log file alone.
    """
    try:
        sys.stderr.flush()
        before = os.dup(_STDERR)
    except (AttributeError, OSError, ValueError):
        yield  # there is no stderr to disturb
        return
    try:
        with tempfile.TemporaryFile() as kept:
            os.dup2(kept.fileno(), _STDERR)
            try:
                yield
            except BaseException:
                os.dup2(before, _STDERR)
                os.write(_STDERR, _written(kept.fileno()))
                raise
            os.dup2(before, _STDERR)
            for line in _written(kept.fileno()).decode(errors="replace").splitlines():
                if line.strip():
                    logger.info("%s", line.rstrip(), extra=_FILE_ONLY)
    finally:
        os.close(before)


@contextmanager
def hints_to_log() -> Iterator[None]:
    """Give the log what TensorFlow's own logger says meanwhile, such as that a graph was made once more."""

    def to_log(record: logging.LogRecord) -> bool:
        logger.info("%s", record.getMessage(), extra=_FILE_ONLY)
        return False

    theirs = tf.get_logger()
    theirs.addFilter(to_log)
    try:
        yield
    finally:
        theirs.removeFilter(to_log)


def check_keras(backend: str) -> None:
    """Refuse a Keras that some other module has started on another framework.

    Raises:
        BackendUnavailableError: with what to set.
    """
    if backend != "tensorflow":
        raise BackendUnavailableError(
            f"The backend `tensorflow` needs Keras on TensorFlow, and Keras was started on `{backend}`. "
            "Set KERAS_BACKEND=tensorflow in the environment."
        )


def _written(descriptor: int) -> bytes:
    size = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, size)


# Who sets them has a reason; else only what needs attention is written later, when no import is going on.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"
with quietly(), warnings.catch_warnings():
    # What a framework's own modules are warned of is not for our users.
    warnings.simplefilter("ignore")
    import keras
    import tensorflow as tf

    # Looking for GPUs is when drivers complain; later they would do so on the screen. It sets nothing up.
    tf.config.list_physical_devices()

check_keras(keras.backend.backend())
