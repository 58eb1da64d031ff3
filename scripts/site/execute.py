"""Run the notebooks of the documentation anew, each in a kernel and an empty folder of its own.

A cell that fails fails the session. `--write-notebooks` keeps what the cells showed, without what only this
host and this moment know.
"""

from __future__ import annotations

import base64
import io
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

__all__ = ["run_notebooks"]

#: Figures of a dozen inches are as wide as a page of the site.
_KERNEL = (
    "--log-level=ERROR",
    "--InlineBackend.rc={'figure.dpi': 56}",
)
#: Steps of red, green and blue that are kept: fewer are seen, more cost room.
_STEPS = 32
#: A picture that takes more than this, as text, gets along with the steps of grey that the octree leaves.
_ROOM = 60 << 10
#: How long a bar took.
_CLOCK = re.compile(r"\| \d\d:\d\d(?=[,\n])")
#: Where a warning comes from: the folder is this host's.
_FOLDER = re.compile(r"^\S*/(?=ptycho_\w+/\S+\.py:\d+: )", re.MULTILINE)
_IN_HTML = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=]+")
#: A cell that takes longer hangs.
_SECONDS = 600
_KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}


def run_notebooks(paths: list[Path], *, write: bool) -> list[str]:
    """Run notebooks one after the other; what failed, a line each.

    Args:
        write: keep the outputs in the files.
    """
    failed: list[str] = []
    whole_s = 0.0
    for path in paths:
        began = time.perf_counter()
        try:
            notebook = _run(path)
        except CellExecutionError as error:
            failed.append(f"{path.name}: {error.ename}: {error.evalue}\n{error}")
            continue
        finally:
            seconds = time.perf_counter() - began
            whole_s += seconds
            print(f"{path.name} ran for {seconds:.1f} s", flush=True)
        if write:
            _forget_where_and_when(notebook)
            nbformat.write(notebook, path)
    print(f"{len(paths)} notebooks ran for {whole_s:.0f} s")
    return failed


def _run(path: Path) -> Any:  # of nbformat, which is untyped
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=_SECONDS,
            startup_timeout=_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            extra_arguments=list(_KERNEL),
            coalesce_streams=True,
        )
        return client.execute()


def _forget_where_and_when(notebook: Any) -> None:
    """Drop times and the host's Python, keep of a progress bar its end, and make pictures small."""
    notebook.metadata = {"kernelspec": _KERNELSPEC, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = _as_on_a_screen(output.text)
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = _small(data["image/png"])
            if "text/html" in data:
                data["text/html"] = _IN_HTML.sub(lambda found: _small(found[0]), data["text/html"])
            output.pop("transient", None)
        cell.outputs = [output for output in cell.outputs if output.get("text", "-").strip()]


def _as_on_a_screen(text: str) -> str:
    """Let what stands behind a carriage return take the place of what stood there; hide clock and folders."""
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return _FOLDER.sub("", _CLOCK.sub("|", "\n".join(lines)))


def _small(png: str) -> str:
    """Paint a picture with fewer colours; whoever looks closely can run the notebook."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    steps = [round(round(value / 255 * (_STEPS - 1)) * 255 / (_STEPS - 1)) for value in range(256)]
    image = image.point(steps * 3)
    if image.getcolors(256):
        exact = _as_png(image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE))
        if len(exact) <= _ROOM:
            return min(exact, png, key=len)
    # The octree keeps rare hues, which other methods give up, and half of the greys.
    few = image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    return min(_as_png(few), png, key=len)


def _as_png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
