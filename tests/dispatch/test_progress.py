"""What a terminal of the usual width shows while a run goes on, and what its log file keeps."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path


def seen_in_a_terminal(command: list[str], columns: int) -> str:
    """Run a command in a terminal of that width; return what it showed, without the control sequences."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    blocks = []
    while True:
        try:
            block = os.read(controller, 65536)
        except OSError:  # the other end has closed
            break
        if not block:
            break
        blocks.append(block)
    os.close(controller)
    assert process.wait(timeout=60) == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(blocks).decode())


def test_eighty_columns_hold_level_epoch_residual_speed_and_time_left(
    scan_file: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "ptycho_dispatch", "reconstruct", str(scan_file)]
    shown = seen_in_a_terminal([*command, "--output-dir", str(tmp_path / "out")], columns=80)
    moving = [line for line in re.split(r"[\r\n]+", shown) if "frames/s" in line and line.startswith("level")]
    assert moving
    for line in moving:
        assert len(line) <= 80
        assert re.search(r"epoch \d+/\d+  residual \d\.\d{4}  \d+ frames/s  \d+ s left", line)
    # The bar takes the place of the lines on the screen, not in the log file.
    assert "INFO level 1/" not in shown
    assert "level 1/" in (tmp_path / "out" / "ptycho.log").read_text()
