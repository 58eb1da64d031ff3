"""The physics: forward model with adjoints, likelihood, gauge, normalisation, residual, canvas, stitching.

The face of this room is the forward model, slow and plain, by which every core and solver is judged.
"""

from ptycho_core.physics.forward import (
    YX,
    cut_patches,
    intensity,
    interact,
    interact_adjoint_object,
    interact_adjoint_probe,
    measure,
    measure_gradient,
    place_patches,
    propagate,
    propagate_adjoint,
    shift_probe,
    shift_probe_adjoint,
    translate,
    translate_adjoint,
    whole_and_rest,
)

__all__ = [
    "YX",
    "cut_patches",
    "intensity",
    "interact",
    "interact_adjoint_object",
    "interact_adjoint_probe",
    "measure",
    "measure_gradient",
    "place_patches",
    "propagate",
    "propagate_adjoint",
    "shift_probe",
    "shift_probe_adjoint",
    "translate",
    "translate_adjoint",
    "whole_and_rest",
]
