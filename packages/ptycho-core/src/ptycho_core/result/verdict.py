"""Whether a result can be believed, judged without the truth by what can be measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

__all__ = ["Grade", "Verdict"]

Grade = Literal["good", "doubtful", "failed"]


@dataclass(frozen=True, repr=False)
class Verdict:
    """A judgement of a result.

    Attributes:
        grade: `good`, `doubtful` (look before you believe it) or `failed` (this is no image of the sample).
        reasons: a sentence each, the gravest first; what was found where the grade is good.
        measures: the numbers that decided, by name.
        curves: the Fourier ring correlation of two halves of the frames, and what it has to exceed, by name;
            a value for each ring, ring k has k / `side_px` cycles per object pixel. Empty where none were
            made.
    """

    grade: Grade
    reasons: tuple[str, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Show the grade in its colour with its reasons, as notebooks ask for."""
        colour = {"good": "#1a7f37", "doubtful": "#9a6700", "failed": "#b42318"}[self.grade]
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in self.reasons)
        return f'<div><b style="color:{colour}">{self.grade}</b><ul>{reasons}</ul></div>'

    def __repr__(self) -> str:
        return f"<Verdict {self}>"

    def __str__(self) -> str:
        return f"{self.grade}: {' '.join(self.reasons)}" if self.reasons else self.grade

    @classmethod
    def of_record(cls, record: object) -> Verdict | None:
        """Read back what `record` returned; None where it is something else."""
        if not isinstance(record, Mapping) or record.get("grade") not in ("good", "doubtful", "failed"):
            return None
        try:
            return cls(
                grade=record["grade"],
                reasons=tuple(str(reason) for reason in record.get("reasons", ())),
                measures={str(name): float(value) for name, value in record.get("measures", {}).items()},
                curves={
                    str(name): tuple(float(value) for value in curve)
                    for name, curve in record.get("curves", {}).items()
                },
            )
        except (TypeError, ValueError, AttributeError):
            return None

    def record(self) -> dict[str, Any]:
        """Return what `run.json` holds of it."""
        return {
            "grade": self.grade,
            "reasons": list(self.reasons),
            "measures": {name: float(value) for name, value in self.measures.items()},
            "curves": {
                name: [round(float(value), 4) for value in curve] for name, curve in self.curves.items()
            },
        }
