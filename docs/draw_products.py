"""Draw product files beside the reference: `python docs/draw_products.py "PINN=product.h5" "Other=other.h5"`.

The files are those that `tests/ptychodus/drive.py whole FOLDER --frames 516` leaves; the reference lies in
the folder `PTYCHO_DATA_DIR`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from make_pictures import middle_phase, panel, save
from matplotlib.figure import Figure

from ptycho_core.io.product import read_product

HALF_PX = 110


def main() -> None:
    given = [argument.split("=", 1) for argument in sys.argv[1:]]
    pictures = {}
    for name, path in given:
        product = read_product(Path(path))
        middle = np.median(product.positions_px, axis=0) - product.origin_px
        pictures[name] = middle_phase(product.obj.astype(np.complex64), middle, HALF_PX)
    reference = np.load(Path(os.environ["PTYCHO_DATA_DIR"]) / "siemens-star-lsqml.npz")
    corners = reference["top_left_px"]
    middle = np.median(corners, axis=0) + reference["probe"].shape[-1] // 2
    pictures["reference, 200 epochs of LSQ-ML"] = middle_phase(reference["object"], middle, HALF_PX)
    figure = Figure(figsize=(3.4 * len(pictures), 3.7), layout="constrained")
    limit = float(np.percentile(np.abs(next(reversed(pictures.values()))), 99))
    for number, (name, picture) in enumerate(pictures.items(), 1):
        panel(figure, (1, len(pictures), number), picture, name, vmin=-limit, vmax=limit)
    save(figure, "ptychodus.png")


if __name__ == "__main__":
    main()
