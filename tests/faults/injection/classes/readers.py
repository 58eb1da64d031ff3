"""Every format, spoiled: its bytes, its arrays, what it declares, where its links lead."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from injection.case import Act, Case
from injection.classes import arrays_of_files, bombs, byte_damage, hdf5_damage, paths_damage, texts_damage
from injection.ground import Ground, Source

__all__ = ["READING", "draw"]

#: The quick way through the reader, the solver and the writers.
SOLVING = ("--effort", "fast", "--solver-epochs", "2", "--output-dir", "out")
READING: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("inspect", (), 0.6),
    ("reconstruct", SOLVING, 0.3),
    ("watch", ("--replay", "3000", "--timeout", "0.3", "--finish", "none", "--output-dir", "out"), 0.1),
)

#: A kind of damage -> how often, whether it fits a file, and what it does to it.
Fits = Callable[[Path], bool]
Damage = Callable[[Path, random.Random], object]
KINDS: tuple[tuple[str, float, Fits, dict[str, Damage]], ...] = (
    ("bytes", 0.28, lambda path: path.is_file(), byte_damage.DAMAGES),
    ("path", 0.12, lambda path: True, paths_damage.DAMAGES),
    ("arrays", 0.25, arrays_of_files.fits, arrays_of_files.DAMAGES),
    ("hdf5", 0.25, hdf5_damage.fits, hdf5_damage.DAMAGES),
    ("bomb", 0.06, bombs.fits, bombs.DAMAGES),
    ("text", 0.12, texts_damage.fits, texts_damage.DAMAGES),
)


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw a format, one of its files, a kind of damage, and the command that reads it."""
    source = ground.sources[rng.choice(sorted(ground.sources))]
    files = sorted(path.relative_to(source.folder) for path in source.folder.rglob("*") if path.is_file())
    # The scan itself twice as often as what lies beside it; of many equal files one of the first.
    main = [path for path in files if path.parts[0] == source.name] or files
    victim = rng.choice(main[:4] if rng.random() < 0.65 else files)
    fitting = [kind for kind in KINDS if kind[2](source.folder / victim)]
    (_, _, _, damages) = rng.choices(fitting, [share for _, share, _, _ in fitting])[0]
    name = rng.choice(sorted(damages))
    command, words, _ = rng.choices(READING, [share for _, _, share in READING])[0]
    seed = rng.randrange(1000)
    return Case(
        "readers",
        f"{source.format}, {victim}: {name} ({seed}), {command}",
        lambda place: _prepare(place, source, victim, damages[name], seed, command, words),
    )


def _prepare(
    place: Path, source: Source, victim: Path, damage: Damage, seed: int, command: str, words: tuple[str, ...]
) -> list[Act]:
    given = source.put(place)
    damage(place / victim, random.Random(seed))
    return [Act((command, *given, *words), patience_s=20)]
