"""The verdict: good, doubtful or failed, with its reasons, from what can be measured without the truth.

The limits were set on simulated scans of known truth and on two real ones, read rightly and wrongly
(docs/explanation/verdict.md). A right reading explains its frames down to the photon noise, all frames about
equally well, and two halves of them give the same object; a wrong one may do one of these, hardly ever all.
"""

from __future__ import annotations

from collections.abc import Mapping

from ptycho_core.result.verdict import Grade, Verdict

__all__ = ["decide"]

#: Explained to the noise: what is left is less than this part of what the mean pattern leaves.
CLEAN = 0.02
#: The worst twentieth of the frames is explained about as well as the median one.
EVEN = 1.425
#: Halves agree: mean correlation of the coarsest quarter of all frequencies.
AGREE = 0.8
#: Nothing but noise is left: then frames may differ more, as bright and dim ones do, and halves agree less.
SURELY_CLEAN, EVEN_ENOUGH, AGREE_ENOUGH = 0.012, 1.6, 0.78
#: A smooth object leaves most frequencies empty, where halves cannot agree; they still are no strangers.
SMOOTH_AGREE = 0.3
#: Where the fit does not reach the noise, all else has to be better than that.
UNCLEAN, AGREE_WELL, AGREE_COARSELY, EVEN_WELL = 0.2, 0.95, 0.96, 1.25
#: Where halves cannot be made, which alone see that an object is not determined.
CLEAN_ALONE, EVEN_ALONE = 0.015, 1.25
#: Where they were not asked for.
UNCLEAN_UNASKED = 0.2
#: Neighbours share less light than this: frames alone do not fix the object.
LEAST_OVERLAP = 0.3
#: The mean pattern leaves less than this times the noise: then there is little that a fit could explain.
LEAST_TOLD = 1.15
#: No image of the sample: hardly better than the mean pattern, or halves that have nothing in common.
UNEXPLAINED, STRANGERS = 0.8, 0.55
#: Left out: more of the frames than this, more of the pixels.
MANY_FRAMES, MANY_PIXELS = 0.1, 0.25
#: The modulus of an object that a pure absorber or phase plate does not reach.
LARGEST_MODULUS = 1.6
WIDEST_PROBE, LARGEST_EDGE_POWER = 0.3, 0.08


def decide(
    measures: Mapping[str, float],
    *,
    n_frames: int,
    dose_carries_image: bool = True,
    why_no_halves: str = "",
    pixel_size_m: float | None = None,
) -> Verdict:
    """Judge by the numbers of `ptycho_core.result.measures`, of the halves and of what was left out.

    Args:
        measures: by name; those of the halves are missing where they were not made.
        why_no_halves: why they could not be.
    """
    found = _Reasons()
    if not dose_carries_image:
        found.failed("The frames hold too few photons for any image; the object was left transparent.")
        return found.verdict(measures)
    if n_frames == 1:
        found.doubtful("A single frame does not determine object and probe.")
    elif measures.get("overlap", 1.0) < LEAST_OVERLAP:
        found.doubtful(
            f"Neighbouring frames overlap by {100 * measures['overlap']:.0f} % only, and do not "
            "determine the object."
        )
    _judge_fit(found, measures, why_no_halves)
    _judge_image(found, measures)
    if found.grade == "good":
        found.good(_what_is_good(measures, pixel_size_m))
    return found.verdict(measures)


class _Reasons:
    """Collects reasons, the gravest first."""

    def __init__(self) -> None:
        self.by_grade: dict[Grade, list[str]] = {"failed": [], "doubtful": [], "good": []}

    @property
    def grade(self) -> Grade:
        found: list[Grade] = [grade for grade, reasons in self.by_grade.items() if reasons]
        return found[0] if found else "good"

    def failed(self, reason: str) -> None:
        self.by_grade["failed"].append(reason)

    def doubtful(self, reason: str) -> None:
        self.by_grade["doubtful"].append(reason)

    def good(self, reason: str) -> None:
        self.by_grade["good"].append(reason)

    def verdict(self, measures: Mapping[str, float]) -> Verdict:
        reasons = [reason for some in self.by_grade.values() for reason in some]
        return Verdict(self.grade, tuple(reasons), dict(measures))


def _judge_fit(found: _Reasons, measures: Mapping[str, float], why_no_halves: str) -> None:
    unexplained, uneven = measures.get("unexplained"), measures.get("uneven", 1.0)
    if unexplained is None:
        found.failed("The used frames hold no light that the result could be held against.")
        return
    agree, coarsely = measures.get("halves_agree"), measures.get("halves_agree_coarsely", 0.0)
    over = f" ({measures['over_noise']:.3g} times the photon noise)" if "over_noise" in measures else ""
    if unexplained > UNEXPLAINED:
        found.failed(
            f"The frames are explained hardly better than by their mean: {100 * unexplained:.0f} % of what "
            f"the mean leaves is left{over}."
        )
        return
    nothing_to_explain = (
        measures.get("noise_floor", 0.0) > 0
        and measures["mean_residual"] < LEAST_TOLD * measures["noise_floor"]
    )
    if nothing_to_explain and (agree is None or agree < AGREE):
        halves = "" if agree is None else f", and two halves of them agree to {agree:.2f} only"
        found.doubtful(
            f"The frames differ from their mean by hardly more than the photon noise{halves}: a fit says "
            "little. `ptycho diagnose` tries other readings."
        )
        return
    if agree is None:
        _judge_without_halves(found, unexplained, uneven, over, why_no_halves)
        return
    if unexplained <= SURELY_CLEAN and (
        (agree >= AGREE_ENOUGH and uneven <= EVEN_ENOUGH) or (agree >= SMOOTH_AGREE and uneven <= EVEN_WELL)
    ):
        return
    if agree < STRANGERS:
        (found.failed if unexplained > CLEAN else found.doubtful)(
            f"Two halves of the frames give different objects (correlation {agree:.2f})."
        )
        return
    if unexplained <= CLEAN:
        if agree < AGREE:
            found.doubtful(f"Two halves of the frames agree badly (correlation {agree:.2f}).")
        if uneven > EVEN:
            found.doubtful(_uneven(uneven))
        return
    if unexplained > UNCLEAN:
        found.doubtful(
            f"{100 * unexplained:.0f} % of what the mean pattern leaves is not explained{over}; `ptycho "
            "diagnose` looks for the cause."
        )
    if agree < AGREE_WELL or coarsely < AGREE_COARSELY:
        found.doubtful(
            f"The fit does not reach the photon noise{over}, and two halves of the frames agree to "
            f"{agree:.2f} only."
        )
    if uneven > EVEN_WELL:
        found.doubtful(_uneven(uneven))


def _judge_without_halves(
    found: _Reasons, unexplained: float, uneven: float, over: str, why_no_halves: str
) -> None:
    limits = (CLEAN_ALONE, EVEN_ALONE) if why_no_halves else (UNCLEAN_UNASKED, EVEN_WELL)
    clean = unexplained <= CLEAN and uneven <= EVEN and not why_no_halves
    if not clean and (unexplained > limits[0] or uneven > limits[1]):
        without = f"; {why_no_halves}, so nothing else confirms the object" if why_no_halves else ""
        found.doubtful(
            f"{100 * unexplained:.0f} % of what the mean pattern leaves is not explained{over}{without}."
        )


def _uneven(uneven: float) -> str:
    return (
        f"Some frames are explained {uneven:.2g} times worse than the median one, which positions that are "
        "off would do."
    )


def _judge_image(found: _Reasons, measures: Mapping[str, float]) -> None:
    if measures.get("amplitude_high", 1.0) > LARGEST_MODULUS:
        found.doubtful(
            f"The object transmits up to {measures['amplitude_high']:.2f} of the light's amplitude, more "
            "than a sample can."
        )
    if (
        measures.get("probe_extent", 0.0) > WIDEST_PROBE
        or measures.get("probe_at_edge", 0) > LARGEST_EDGE_POWER
    ):
        found.doubtful("The probe fills its window: light beyond it, or a wrong pixel size, is likely.")
    if measures.get("frames_left_out", 0.0) > MANY_FRAMES:
        found.doubtful(f"{100 * measures['frames_left_out']:.0f} % of the frames were left out.")
    if measures.get("bad_pixels", 0.0) > MANY_PIXELS:
        found.doubtful(f"{100 * measures['bad_pixels']:.0f} % of the pixels are bad.")


def _what_is_good(measures: Mapping[str, float], pixel_size_m: float | None) -> str:
    said = [f"{100 * (1 - max(measures['unexplained'], 0.0)):.0f} % of what can be explained is"]
    if "halves_agree" in measures:
        period = measures["resolution_px"]
        length = f"{period * pixel_size_m * 1e9:.3g} nm" if pixel_size_m else f"{period:.3g} px"
        said.append(f"two halves of the frames agree down to a period of {length}")
    return f"{'; '.join(said)}."
