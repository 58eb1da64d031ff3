"""TensorFlow is loaded when it is used, and what it writes meanwhile is for the log."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from ptycho_config.errors import BackendUnavailableError
from ptycho_core_tf import framework
from ptycho_dispatch.log import FILE_ONLY


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TF_CPP", "KERAS"))}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**kept, **environment}
    )


def test_loading_writes_nothing_and_starts_keras_on_tensorflow_whatever_is_set() -> None:
    done = run(
        "from ptycho_core_tf.framework import keras, tf; "
        "print(float(tf.reduce_sum(tf.ones([3]) ** 2)), keras.backend.backend())",
        KERAS_BACKEND="torch",
    )
    assert (done.stdout.strip(), done.stderr) == ("3.0 tensorflow", "")


def test_what_tensorflow_writes_comes_to_the_log() -> None:
    done = run("import logging; logging.basicConfig(level='INFO'); from ptycho_core_tf.framework import tf")
    assert "INFO:ptycho.tensorflow:" in done.stderr
    assert all(line.startswith("INFO:ptycho.tensorflow:") for line in done.stderr.splitlines())


def test_keras_that_was_started_on_another_backend_is_refused() -> None:
    framework.check_keras("tensorflow")
    with pytest.raises(BackendUnavailableError, match=r"`jax`\. Set KERAS_BACKEND=tensorflow"):
        framework.check_keras("jax")


def test_lines_for_the_log_are_not_for_the_screen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ptycho.tensorflow"), framework.quietly():
        os.write(2, b"a note\n\nanother\n")
    assert [record.message for record in caplog.records] == ["a note", "another"]
    assert all(getattr(record, FILE_ONLY) for record in caplog.records)


def test_where_an_error_ends_it_stderr_has_what_was_written(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), framework.quietly():
        os.write(2, b"why\n")
        raise ValueError("broken")
    assert capfd.readouterr().err == "why\n"
