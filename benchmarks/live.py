"""Live reconstruction: does it keep up, how late is a frame in the picture, and where does it end?

    nox -s bench -- live [--rates 500,2000] [--long-frames 3000] [--write-docs]

The real scan is replayed at each rate, and so is a simulated scan that lasts longer (128 px, finished by its live
image). Frames arrive by the clock, whether or not anybody takes them; the latency of a frame is counted from then to
the moment when the first picture that holds its trace is a complete file.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import frame
import matplotlib.image
import numpy as np
from matplotlib.figure import Figure

from ptycho_core import Reconstruction, Scan, open_scan, solve
from ptycho_core.figures.display import covered_box, covered_region, phase_without_ramp, robust_limits
from ptycho_core.live import BySolver, LiveOptions, LiveReport, watch
from ptycho_core.live.replay import Replay
from ptycho_core.simulate import simulate_scan

PICTURE = Path("docs/images/live.png")
SHOWN = 3


class Album:
    """Keeps each live picture with the number of frames in it."""

    def __init__(self, folder: Path) -> None:
        self.picture, self._folder = folder / "live.png", folder
        self.reports: list[LiveReport] = []

    def __call__(self, report: LiveReport) -> None:
        shutil.copy(self.picture, self._folder / f"{len(self.reports)}.png")
        self.reports.append(report)

    def pages(self) -> list[tuple[str, np.ndarray]]:
        """A few of the pictures, their phase half alone."""
        chosen = np.unique(np.linspace(0, len(self.reports) - 1, SHOWN).round().astype(int))
        pages = []
        for number in chosen.tolist():
            grey = matplotlib.image.imread(self._folder / f"{number}.png")
            report = self.reports[number]
            pages.append((f"{report.frames} frames", grey[:, : grey.shape[0]]))
        return pages


def replayed(
    scan: Scan, rate: float, album: Album, *, finish: str, refresh_s: float = 0.25
) -> tuple[dict[str, Any], Reconstruction]:
    """Watch a replay and say how it went."""
    live: list[Reconstruction] = []
    result, record = watch(
        Replay(scan, rate),
        BySolver(finish=finish),  # type: ignore[arg-type]
        options=LiveOptions(refresh_s=refresh_s),
        picture=album.picture,
        on_report=album,
        on_complete=live.append,
    )
    latency = record.summary()["latency_s"]
    seconds = scan.n_frames / rate
    row = {
        "scan": scan.name,
        "frames": record.frames,
        "arriving_per_s": rate,
        "seconds": seconds,
        "traced_per_s": record.sustained_frames_per_second,
        "most_waiting": max(report.waiting for report in album.reports),
        "latency_median_s": latency["median"],
        "latency_95_s": latency["95 %"],
        "latency_max_s": latency["max"],
        "latency_of_last_s": record.latencies_s[-1],
        "R_live": live[0].data_residual,
        "R_final": result.data_residual,
        "finish_s": record.finish_s,
    }
    return row, result


def draw(pages: list[tuple[str, np.ndarray]], final: Reconstruction) -> None:
    """Write the strip: phases while frames come, and the phase at the end."""
    seen = covered_region(final.coverage, 0.02)
    box = covered_box(seen)
    phase = phase_without_ramp(final.object, seen)[box]
    low, high = robust_limits(phase[seen[box]])
    pages = [
        *pages,
        (f"finished, R = {final.data_residual:.4f}", np.clip((phase - low) / (high - low), 0, 1)),
    ]
    figure = Figure(figsize=(3.2 * len(pages), 3.5), dpi=120, layout="constrained")
    for axes, (title, grey) in zip(np.atleast_1d(figure.subplots(1, len(pages))), pages, strict=True):
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE)
    print(f"written: {PICTURE}")


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--rates", default="500,2000")
    parser.add_argument("--long-frames", type=int, default=3000)
    arguments = parser.parse_args()
    rates = [float(rate) for rate in arguments.rates.split(",")]
    star = open_scan("siemens-star")
    began = time.perf_counter()
    offline = solve(star)
    offline_s = time.perf_counter() - began
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for rate in rates:
            album = Album(Path(folder))
            row, result = replayed(star, rate, album, finish="solve")
            rows.append(row | {"R_offline": offline.data_residual})
            print(row, flush=True)
            if arguments.write_docs and rate == rates[0]:
                album = Album(Path(folder))
                _, result = replayed(star, rate, album, finish="solve", refresh_s=0.15)
                draw(album.pages(), result)
        if arguments.long_frames:
            made = simulate_scan(object_kind="polygons", frames=arguments.long_frames, frame_px=128, seed=1)
            for rate in rates:
                row, _ = replayed(made.scan, rate, Album(Path(folder)), finish="none")
                rows.append(row)
                print(row, flush=True)
    table = frame.markdown_table(
        [
            "scan",
            "frames",
            "arriving, 1/s",
            "traced, 1/s",
            "latency: median, s",
            "95 %",
            "longest",
            "of the last",
            "R live",
            "R final",
            "R offline",
            "finish, s",
        ],
        [
            [
                row["scan"],
                str(row["frames"]),
                f"{row['arriving_per_s']:.0f}",
                f"{row['traced_per_s']:.0f}",
                f"{row['latency_median_s']:.2f}",
                f"{row['latency_95_s']:.2f}",
                f"{row['latency_max_s']:.2f}",
                f"{row['latency_of_last_s']:.2f}",
                f"{row['R_live']:.4f}",
                f"{row['R_final']:.4f}",
                f"{row['R_offline']:.4f}" if "R_offline" in row else "-",
                f"{row['finish_s']:.2f}",
            ]
            for row in rows
        ],
    )
    text = f"""{frame.opening("Live: a scan replayed as if it were being measured", "nox -s bench -- live")}
{table}

"Traced" counts the frames that left their trace between the first and the last new picture. The latency of a frame
is from its arrival to the first picture with its trace, complete on the disk; where "of the last" is no longer than
the median, nothing has queued up. "R live" is that of the live image when the last frame is in, still at a coarse
level; "final" after the scan was solved as a whole (real scan; offline that takes {offline_s:.2f} s, looking at
the same frames) or of the live image at full resolution (simulated scan, `finish="none"`).

![Phases while frames come, and at the end](../images/live.png)
"""
    keys = ("traced_per_s", "latency_median_s", "latency_max_s", "R_live", "R_final", "finish_s")
    figures = frame.figures(rows, ("scan", "arriving_per_s"), *keys) | {"offline_s": offline_s}
    frame.finish("live", arguments, text, {"offline_s": offline_s, "rows": rows}, figures)


if __name__ == "__main__":
    main()
