"""What Ptychodus writes: a product file with its diffraction, and the diffraction alone under `dp`.

A product without diffraction is no scan; it is what `--positions-file` takes beside a file of frames.
"""

from __future__ import annotations

from dataclasses import replace

from ptycho_config.errors import DataError
from ptycho_core.io.formats import named
from ptycho_core.io.hdf5 import Hdf5
from ptycho_core.io.product import OBJECT, POSITION_X, POSITION_Y, PROBE, read_product
from ptycho_core.io.raw_scan import RawScan, RequestedKeys
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["RAW_DIFFRACTION", "is_product", "matches", "read"]

RAW_DIFFRACTION = "raw_data/diffraction"
_DIFFRACTION = "dp"


def matches(file: Hdf5) -> bool:
    """Whether it is a product, or holds nothing but `dp`."""
    return is_product(file) or file.dataset(_DIFFRACTION) is not None


def is_product(file: Hdf5) -> bool:
    """Whether object, probe and positions stand where a product has them."""
    return all(file.dataset(key) is not None for key in (OBJECT, PROBE, POSITION_X, POSITION_Y))


def read(file: Hdf5, name: str, keys: RequestedKeys) -> RawScan:
    """Read a diffraction file, or a product that holds its diffraction.

    Raises:
        DataError: a product without diffraction.
    """
    if not is_product(file):
        kind = "Ptychodus diffraction (or PtychoShelves)"
        return replace(named.read(file, name, keys), format=kind)
    key = keys.frames or RAW_DIFFRACTION
    if file.dataset(key) is None:
        raise DataError(
            f"{file.path.name}: this is a product, it holds object, probe and positions but no diffraction. "
            f"Type `ptycho reconstruct DIFFRACTION.h5 --positions-file {file.path.name}`, or name the frames "
            "with `--frames-key`.",
            finding="DATA-001",
        )
    product = read_product(file.path)
    return RawScan(
        name=product.name or name,
        format="Ptychodus product with its diffraction",
        frames=LazyFrames(file.frames(file.required(key))),
        declared_measurement=("counts", "Ptychodus stores what the detector gave"),
        positions_px=product.positions_px,
        position_unit_open=False,
        probe=product.probe if keys.probe is None else file.read(file.required(keys.probe)),
        bad_pixels=file.array("raw_data/bad_pixels"),
        pixel_size_m=product.pixel_size_m,
        detector_aspect=1 / product.pixel_aspect,
        energy_ev=product.energy_ev,
        distance_m=product.distance_m,
        source=file.path,
        notes=(f"The frames are `{key}`; positions are those of the product, its metres over its pixel.",),
    )
