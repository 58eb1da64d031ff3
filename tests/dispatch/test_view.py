"""`ptycho view`: a window of napari under a screen that nobody sees, and the page where there is none."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ptycho_dispatch.cli import main

WINDOW = pytest.mark.skipif(
    importlib.util.find_spec("napari") is None or shutil.which("xvfb-run") is None,
    reason="needs napari (`pip install 'ptycho-dispatch[viewer]'`) and xvfb-run",
)


@pytest.fixture(scope="module")
def solved(scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "solved"
    words = ["reconstruct", str(scan_file), "--effort", "fast", "--output-dir", str(directory)]
    assert main([*words, "--probe-modes", "2"]) == 0
    return directory


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there is always a screen")
def test_without_a_window_the_page_is_written(
    solved: Path, tmp_path: Path, no_screen: None, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = shutil.copytree(solved, tmp_path / "run")
    assert main(["view", str(directory)]) == 0
    said = capsys.readouterr().out
    assert "napari is not installed" in said or "there is no screen" in said
    assert "open the page yourself" in said
    assert 'class="spot"' in (directory / "report.html").read_text("utf-8")
    (directory / "report.html").unlink()
    assert main(["view", str(directory), "--page"]) == 0
    assert "napari" not in capsys.readouterr().out
    assert (directory / "report.html").is_file()


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there is always a screen")
def test_a_picture_of_a_window_that_cannot_be_is_refused(
    solved: Path, tmp_path: Path, no_screen: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "view.png"
    assert main(["view", str(solved), "--screenshot", str(out)]) == 4
    assert "cannot be shown here" in capsys.readouterr().err
    assert main(["view", str(solved), "--page", "--screenshot", str(out)]) == 2
    assert main(["view", str(tmp_path / "none"), "--page"]) == 3
    assert not out.exists()


def under_a_screen(*words: str, folder: Path) -> str:
    """Run Python under a screen that nobody sees."""
    command = ["xvfb-run", "-a", "-s", "-screen 0 1400x1000x24", sys.executable, *words]
    # Whatever runs without a desktop: no portal, no compositor.
    surroundings = os.environ | {"QT_QPA_PLATFORM": "xcb", "NAPARI_CONFIG": str(folder / "napari.yaml")}
    done = subprocess.run(
        command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@WINDOW
@pytest.mark.slow
def test_a_window_shows_object_probe_positions_and_frames(solved: Path, tmp_path: Path) -> None:
    said = under_a_screen(
        "-m", "ptycho_dispatch", "view", str(solved), "--screenshot", "view.png", folder=tmp_path
    )
    assert "picture: view.png" in said
    picture = np.asarray(Image.open(tmp_path / "view.png"))
    assert min(picture.shape[:2]) > 300
    # Grey values, the colours of the positions and those of the frames.
    assert len(np.unique(picture.reshape(-1, 3) // 32, axis=0)) > 40


CLICK = """
import sys
from types import SimpleNamespace
import napari
import numpy as np
from ptycho_core import Reconstruction, open_scan
from ptycho_core.figures import FrameComparison
from ptycho_dispatch.viewer.window import build

result, scan = Reconstruction.load(sys.argv[1]), open_scan(sys.argv[2])
viewer = build(napari.Viewer(show=False), result, FrameComparison(result, scan))
print(sorted(layer.name for layer in viewer.layers))
for number in (7, 12):
    event = SimpleNamespace(position=tuple(result.positions_px[number] + 0.01), type="mouse_press")
    viewer.mouse_drag_callbacks[-1](viewer, event)
    assert np.allclose(viewer.layers["measured"].data, np.log1p(scan.counts([number])[0])), number
    limits = [tuple(viewer.layers[name].contrast_limits) for name in ("measured", "predicted")]
    assert limits[0] == limits[1]
    assert np.allclose(viewer.layers["chosen position"].data, result.positions_px[number])
    print(viewer.text_overlay.text)
before = viewer.layers["measured"].data.copy()
viewer.mouse_drag_callbacks[-1](viewer, SimpleNamespace(position=(1e5, 1e5), type="mouse_press"))
assert np.array_equal(viewer.layers["measured"].data, before)
viewer.close()
"""


@WINDOW
@pytest.mark.slow
def test_a_click_on_a_position_shows_its_frame(solved: Path, scan_file: Path, tmp_path: Path) -> None:
    said = under_a_screen("-c", CLICK, str(solved), str(scan_file), folder=tmp_path).splitlines()
    assert said[0] == str(
        [
            *("chosen position", "coverage", "measured", "object amplitude", "object phase"),
            *("positions, R of the frame", "predicted", "probe mode 1", "probe mode 2"),
        ]
    )
    assert said[1].startswith("frame 7: R = 0.")
    assert said[2].startswith("frame 12: R = 0.")
