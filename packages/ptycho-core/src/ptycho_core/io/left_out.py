"""Steps that leave out what is not data: masked, bad and NaN pixels; frames not asked for, or no frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ptycho_config.errors import ConfigError, DataError
from ptycho_core.io.draft import Draft
from ptycho_core.io.frame_choice import asked_for, far_from_all_others, interpolated
from ptycho_core.io.frame_values import nan_pixels, warn
from ptycho_core.io.geometry import lazily
from ptycho_core.io.layout import arrange_mask, require_real_numbers
from ptycho_core.io.masks import mask_asked_for
from ptycho_core.scan.bad_pixels import screen_pixels, wrapped_around
from ptycho_core.scan.bad_values import find_bad_values
from ptycho_core.scan.screening import screen_frames

__all__ = [
    "choose_frames",
    "leave_out_bad_frames",
    "leave_out_bad_pixels",
    "leave_out_lonely_frames",
    "mark_nan_as_bad",
    "take_mask",
    "warn_of_a_large_mask",
]

_MOST_NAMED = 12
LARGEST_BAD_FRACTION = 0.25
#: A mask of most pixels that hides more of the light is more likely the other way round.
MOST_LIGHT_MASKED = 0.6


def some_numbers(numbers: np.ndarray) -> str:
    """Name the first of some frames, runs of them as ranges."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    words = [str(run[0]) if run.size == 1 else f"{run[0]}-{run[-1]}" for run in runs if run.size]
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return ", ".join(words[:_MOST_NAMED]) + more


# Pixels


def take_mask(draft: Draft) -> Draft:
    """Arrange the mask of bad pixels as the frames were, and join the one that was asked for.

    Raises:
        DataError: it has another shape, cannot be read, or leaves no pixel.
        ConfigError: it is to be inverted, and there is none.
    """
    options = draft.options
    own = draft.raw.bad_pixels if options.bad_pixels != "off" else None
    if own is not None:
        own = np.asarray(own)
        require_real_numbers(own, draft.raw.name, "the mask of pixels")
        turned = options.mask_invert and options.mask is None
        bad = own == 0 if turned else own != 0
        said = "turned round, as asked" if turned else draft.raw.mask_convention
        draft = _with_mask(draft, bad, said)
        draft = draft.noting(
            f"The file's own mask marks {100 * float(bad.mean()):.2g} % of the pixels as bad: {said}."
        )
    if options.mask is None:
        if options.mask_invert and own is None:
            raise ConfigError(
                "`mask_invert` turns a mask round, and there is none. Name one with `--mask FILE`."
            )
        return draft
    given = mask_asked_for(options.mask, inverted=options.mask_invert)
    draft = _with_mask(draft, given.bad, given.convention)
    pixels = f"{100 * float(given.bad.mean()):.2g} % of the pixels"
    return draft.noting(f"The mask of {given.source} marks {pixels} as bad: {given.convention}.")


def _with_mask(draft: Draft, mask: np.ndarray, convention: str) -> Draft:
    bad = arrange_mask(mask, draft.frames.shape, moved=draft.frame_axis_was_last, name=draft.name)
    if bad.all():
        raise DataError(
            f"{draft.name}: every pixel is marked bad ({convention}). Is it the other way "
            "round? Then type `--mask-invert true`.",
            finding="DATA-001",
        )
    return replace(draft, bad_pixels=bad if draft.bad_pixels is None else _joined(draft.bad_pixels, bad))


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return one | other  # (N, N) and (M, N, N) broadcast


def leave_out_bad_pixels(draft: Draft) -> Draft:
    """Unwrap counts that went past a signed type, and join what is not data to the bad pixels, and warn.

    Only where something is found are the frames read again, for sums that leave it out.
    """
    if draft.options.bad_pixels != "auto":
        return draft
    draft = _unwrapped(draft)
    if (draft.seen.bad_values_per_frame > draft.seen.counts_sum.size / 2).any():
        draft = leave_out_bad_frames(draft)  # first: no pixel can be judged beside frames that are mostly NaN
    bad, survey, frames = draft.bad_pixels, draft.seen, draft.frames
    if survey.first_infinite is not None:
        count = int(survey.bad_values_per_frame.sum()) - survey.n_nan
        warn(
            f"{draft.name}: {count} infinite values, the first in frame {survey.first_infinite}, are "
            "left out as bad pixels. `--bad-pixels file` refuses them.",
            finding="DATA-001",
        )
    known = bad if bad is None or bad.ndim == 2 else np.asarray(bad.all(axis=0))
    found = screen_pixels(survey, frames.dtype, known=known)
    if found:
        pixels = np.logical_or.reduce(list(found.values()))
        bad = pixels if bad is None else bad | pixels
        survey = draft.surveyed(frames, bad_pixels=bad, measurement=survey.measurement)
    in_some_frames = find_bad_values(frames, survey, bad)
    for values in in_some_frames.values():
        bad = values if bad is None else bad | values
    if in_some_frames:
        survey = draft.surveyed(frames, bad_pixels=bad, measurement=survey.measurement)
    elif not found:
        return draft
    said = _what_was_found(found, in_some_frames)
    warn(f"{draft.name}: {said}. `--bad-pixels off` keeps them.", finding="DATA-001")
    return draft.noting(f"{said}.", bad_pixels=bad, survey=survey)


def _what_was_found(found: dict[str, np.ndarray], in_some_frames: dict[str, np.ndarray]) -> str:
    """Give the number of pixels and the reason for each kind."""
    words = [f"{np.count_nonzero(mask)} {reason}" for reason, mask in found.items()]
    for reason, values in in_some_frames.items():
        pixels = values if values.ndim == 2 else values.any(axis=0)
        n_frames = "" if values.ndim == 2 else f", in {np.count_nonzero(values.any(axis=(1, 2)))} frames"
        words.append(f"{np.count_nonzero(pixels)} {reason}{n_frames}")
    number = sum(int(word.split()[0]) for word in words)
    pixels_are = "pixel is" if number == 1 else "pixels are"
    return f"{number} {pixels_are} left out as bad: {'; '.join(words)}"


def warn_of_a_large_mask(draft: Draft) -> Draft:
    """Warn where over a quarter of the pixels are marked bad, and say whether the mask looks inverted."""
    bad = draft.bad_pixels
    if bad is None or bad.mean() <= LARGEST_BAD_FRACTION:
        return draft
    shared = bad if bad.ndim == 2 else bad.all(axis=0)
    sample = np.unique(np.linspace(0, len(draft.frames) - 1, min(len(draft.frames), 16)).astype(int))
    with np.errstate(invalid="ignore", over="ignore"):
        light = np.nan_to_num(np.asarray(draft.frames[sample], np.float64), posinf=0, neginf=0).clip(0)
    mean = light.mean(axis=0)
    under, beside = float(mean[shared].mean()), float(mean[~shared].mean())
    covered = float(mean[shared].sum()) / max(float(mean.sum()), 1e-30)
    inverted = under > 4 * beside or (covered > MOST_LIGHT_MASKED and bad.mean() > 0.5)
    says = (
        f"the masked pixels hold {under:.3g} on average and the others {beside:.3g}, so it looks inverted; "
        "`--mask-invert true` turns it round, `--bad-pixels off` ignores the file's"
        if inverted
        else f"the masked pixels hold {under:.3g} on average and the others {beside:.3g}, so it does not "
        "look inverted"
    )
    share = f"{100 * float(bad.mean()):.0f} % of the pixels"
    warn(f"{draft.name}: {share} are marked bad; {says}.", finding="DATA-001")
    return draft


@dataclass(frozen=True)
class _Unsigned:
    """Reads the bits of a signed type as the unsigned one."""

    def shape(self, frame_shape: tuple[int, int]) -> tuple[int, int]:
        return frame_shape

    def dtype(self, dtype: np.dtype) -> np.dtype:
        return np.dtype(f"{dtype.byteorder}u{dtype.itemsize}")

    def __call__(self, block: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(block).view(self.dtype(block.dtype))


def _unwrapped(draft: Draft) -> Draft:
    frames, survey = draft.frames, draft.seen
    if not wrapped_around(survey, frames.dtype):
        return draft
    unsigned = _Unsigned().dtype(frames.dtype)
    warn(
        f"{draft.name}: {survey.n_negative} negative values go on from the largest {frames.dtype}; they "
        f"wrapped around and are read as {unsigned}. `--bad-pixels off` leaves them as stored.",
        finding="DATA-001",
    )
    whole = isinstance(frames, np.ndarray)
    frames = frames.view(unsigned) if whole else lazily(frames).then(_Unsigned())
    survey = draft.surveyed(frames, bad_pixels=draft.bad_pixels, measurement=survey.measurement)
    return draft.noting(
        f"Values that had wrapped around were read as {unsigned}.", frames=frames, survey=survey
    )


def mark_nan_as_bad(draft: Draft) -> Draft:
    """Join the mask given with the pixels that are NaN; one mask for all frames where that is enough."""
    bad, nan = draft.bad_pixels, nan_pixels(draft.frames, draft.seen)
    if nan is not None:
        bad = nan if bad is None else bad | nan
        count = int(draft.seen.bad_values_per_frame.sum())
        kind = "NaN" if count == draft.seen.n_nan else "NaN or infinite"
        draft = draft.noting(f"{count} values are {kind} and count as bad pixels.")
    if bad is None:
        return draft
    return draft.noting(f"{100 * float(bad.mean()):.2g} % of the pixels are bad.", bad_pixels=bad)


# Frames


def choose_frames(draft: Draft) -> Draft:
    """Keep the frames that were asked for and have a position.

    Raises:
        ConfigError: what was asked for cannot be read.
        DataError: no frame is left.
    """
    options, name = draft.options, draft.name
    chosen = any(value is not None for value in (options.frames, options.exclude_frames, options.region))
    finite = np.isfinite(draft.positions).all(axis=1)
    if not chosen and finite.all():
        return draft
    if not finite.any():
        raise DataError(
            f"{name}: none of the {finite.size} positions is finite. Expected one (y, x) pair per frame.",
            finding="DATA-001",
        )
    if not finite.all() and options.missing_positions == "interpolate":
        filled = interpolated(draft.positions)
        made = np.isfinite(filled).all(axis=1) & ~finite
        if made.any():
            said = f"{np.count_nonzero(made)} missing positions were put between their neighbours in time"
            named = some_numbers(_numbers(draft, np.asarray(made)))
            warn(f"{name}: {said}: frames {named}.", finding="DATA-001")
            draft = draft.noting(f"{said}.", positions=filled)
            if draft.all_positions is not None and draft.frame_numbers is not None:
                everywhere = draft.all_positions.copy()
                everywhere[draft.frame_numbers] = filled
                draft = replace(draft, all_positions=everywhere)
        finite |= made
    used = np.ones(finite.size, dtype=bool)
    if chosen:
        everywhere = draft.positions if draft.all_positions is None else draft.all_positions
        of_all = asked_for(options, everywhere, name)
        used = of_all if draft.frame_numbers is None else of_all[draft.frame_numbers]
        draft = draft.noting(
            f"{np.count_nonzero(used)} of {used.size} frames were asked for.",
            n_frames_asked_for=int(np.count_nonzero(of_all)),
        )
    if not (used & finite).any():
        raise DataError(f"{name}: none of the frames that were asked for has a position.", finding="DATA-001")
    lost = used & ~finite
    if lost.any():
        warn(
            f"{name}: {_frames(lost)} without a finite position left out: "
            f"{some_numbers(_numbers(draft, lost))}. `--missing-positions interpolate` puts them between "
            "their neighbours in time.",
            finding="DATA-001",
        )
        draft = draft.noting(f"{_frames(lost)} without a position left out.")
    used &= finite
    return draft if used.all() else draft.with_verified_frames().keeping(used)


def _frames(chosen: np.ndarray) -> str:
    """Count some frames, so that a participle can follow."""
    count = int(np.count_nonzero(chosen))
    return f"{count} frame{'s' if count != 1 else ''}"


def _numbers(draft: Draft, chosen: np.ndarray) -> np.ndarray:
    """Return the numbers in the file of some frames of the draft."""
    here = np.flatnonzero(chosen)
    return here if draft.frame_numbers is None else draft.frame_numbers[here]


def leave_out_lonely_frames(draft: Draft) -> Draft:
    """Leave out single frames, placed in pixels, so far from all others that they share nothing."""
    if draft.options.bad_frames == "off" or not np.isfinite(draft.positions).all():
        return draft
    far = far_from_all_others(draft.positions, draft.frame_px)
    if not far.any():
        return draft
    at = draft.positions[np.flatnonzero(far)[0]]
    warn(
        f"{draft.name}: {_frames(far)} far from all others left out: {some_numbers(_numbers(draft, far))} "
        f"(the first at y {at[0]:.6g}, x {at[1]:.6g} px). "
        "`--bad-frames off` keeps them.",
        finding="DATA-001",
    )
    numbers = _numbers(draft, far)
    draft = draft.noting(f"{_frames(far)} far from all others left out.")
    draft = draft.with_verified_frames().keeping(~far)
    if draft.all_positions is not None:  # a position that is not believed is none
        everywhere = draft.all_positions.copy()
        everywhere[numbers] = np.nan
        draft = replace(draft, all_positions=everywhere)
    return draft


def leave_out_bad_frames(draft: Draft) -> Draft:
    """Leave out frames that are no data, and warn; only then are the frames read again."""
    if draft.options.bad_frames == "off":
        return draft
    survey = draft.seen
    found = screen_frames(survey, draft.positions, draft.frames)
    if not found:
        return draft
    bad = np.logical_or.reduce(list(found.values()))
    said = "; ".join(
        f"{np.count_nonzero(frames)} {reason} ({some_numbers(_numbers(draft, frames))})"
        for reason, frames in found.items()
    )
    warn(
        f"{draft.name}: {np.count_nonzero(bad)} of {bad.size} frames are left out: {said}. "
        "`--bad-frames off` keeps them.",
        finding="DATA-001",
    )
    measurement = survey.measurement
    draft = draft.keeping(~bad).noting(f"{np.count_nonzero(bad)} frames were left out: {said}.")
    again = draft.surveyed(draft.frames, bad_pixels=draft.bad_pixels, measurement=measurement)
    return replace(draft, survey=again)
