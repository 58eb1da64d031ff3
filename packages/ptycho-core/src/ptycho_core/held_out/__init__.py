"""What is set aside of the data to judge by, and never fitted: a share of the photons.

Photons held out of every pixel are independent of those that are kept, exactly so for Poisson counts; how
likely an image makes them is a judgement without truth. Source: binomial thinning, see J. Leiner, B. Duan,
L. Wasserman and A. Ramdas, J. Am. Stat. Assoc. (2023), 10.1080/01621459.2023.2270748 ("data fission").
"""

from ptycho_core.held_out.photons import HELD_TO_KEPT, SHARE, hold_out_into, hold_out_photons

__all__ = ["HELD_TO_KEPT", "SHARE", "hold_out_into", "hold_out_photons"]
