"""A case that failed, as a small program of its own: its files packed inside, its command, what was seen."""

from __future__ import annotations

import base64
import io
import re
import tarfile
import textwrap
from pathlib import Path

from injection.case import Act, Case
from injection.judging import Finding

__all__ = ["write_program"]

#: A program holds its files up to this size; beyond it they lie beside it.
MOST_BYTES = 1 << 20
PROGRAM = '''"""{title}

Seen: {outcome}: {words}
Right: one of the exit codes {codes}{more}.
Needs `ptycho` on the PATH; everything else is in here. {number}
"""
import base64, io, lzma, os, resource, shutil, signal, subprocess, sys, tarfile, tempfile, time

FILES = {files}
place = tempfile.mkdtemp()
os.chdir(place)
packed = base64.b85decode(FILES) if isinstance(FILES, str) else open(FILES[0], "rb").read()
with tarfile.open(fileobj=io.BytesIO(lzma.decompress(packed))) as archive:
    archive.extractall(place, filter="fully_trusted")
os.environ.setdefault("PTYCHO_CACHE_DIR", tempfile.mkdtemp())
environment = dict(os.environ)
{acts}'''
ACT = """
for name, value in {environment}.items():
    environment.pop(name, None) if value is None else environment.__setitem__(name, value)
words = {command}

def limits():
    for kind, most in {limits}:
        resource.setrlimit(kind, (most, most))
    if {stdout!r} == "closed": os.close(1)
    if {stderr!r} == "closed": os.close(2)
    if {stdout!r} == "full": os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    if {stderr!r} == "full": os.dup2(os.open("/dev/full", os.O_WRONLY), 2)

started = time.time()
process = subprocess.Popen(words, env=environment, preexec_fn=limits, stdin=subprocess.DEVNULL)
{stop}try:
    print("exit", process.wait({patience}), f"after {{time.time() - started:.1f}} s")
except subprocess.TimeoutExpired:
    process.kill()
    print("no end after {patience} s")
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
print("peak", peak, "MB; left:", sorted(os.listdir(os.fsencode("."))))
"""


def write_program(
    case: Case, acts: list[Act], at: int, prepared: Path, found: Finding, folder: Path, number: str
) -> Path:
    """Write the program of a failure.

    Args:
        acts: all acts of the case.
        at: the one that failed; those before it are in the program.
        prepared: the files as they were before the first act.
        number: how the case is found again in the campaign, for its name and its text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{case.kind} {case.name}".lower()).strip("-")[:70]
    path = folder / f"{slug}-{number.split()[-1]}.py"
    packed = _packed(prepared)
    if len(packed) <= MOST_BYTES:
        text = base64.b85encode(packed).decode()
        files = "(\n" + "\n".join(f"    {line!r}" for line in textwrap.wrap(text, 96)) + "\n)"
    else:
        beside = path.with_suffix(".tar.xz")
        beside.write_bytes(packed)
        files = f"[os.path.join(os.path.dirname(os.path.abspath(__file__)), {beside.name!r})]"
    wrong = acts[at]
    more = f"; {' '.join(wrong.check.split())}" if wrong.check else ""
    text = PROGRAM.format(
        title=_plain(f"{case.kind}: {case.name}"),
        outcome=found[0],
        words=_plain(found[1]),
        codes=sorted(wrong.codes),
        more=_plain(more),
        number=_plain(number),
        files=files,
        acts="".join(map(_act, acts[: at + 1])),
    )
    path.write_bytes(text.encode("utf-8", "backslashreplace"))
    return path


def _plain(text: str) -> str:
    return text.encode("unicode_escape").decode().replace('"""', "'''")


def _act(act: Act) -> str:
    command = f"['ptycho', *{list(act.words)!r}]"
    if act.program:
        command = f"[sys.executable, '-c', {act.program!r}, *{list(act.words)!r}]"
    limits = []
    if act.address_space_bytes:
        limits.append(f"(resource.RLIMIT_AS, {act.address_space_bytes})")
    if act.file_bytes:
        limits.append(f"(resource.RLIMIT_FSIZE, {act.file_bytes})")
    stop = ""
    if act.stop is not None:
        stop = (
            f"time.sleep({act.stop.after_s:.3f}){' # from the first line of main' if act.process else ''}\n"
        )
        stop += f"process.send_signal({act.stop.number})\n"
    if act.stop is not None and act.stop.again_after_s is not None:
        stop += f"time.sleep({act.stop.again_after_s:.3f})\nprocess.send_signal({act.stop.number})\n"
    return ACT.format(
        environment=dict(act.environment),
        command=command,
        limits=f"[{', '.join(limits)}]",
        stdout=act.stdout,
        stderr=act.stderr,
        stop=stop,
        patience=round(act.patience_s),
    )


def _packed(prepared: Path) -> bytes:
    # Packed as it goes: an archive of gigabytes of zeros would be held until somebody looks for cycles.
    with io.BytesIO() as content:
        with tarfile.open(fileobj=content, mode="w:xz", format=tarfile.PAX_FORMAT, preset=1) as archive:
            for path in sorted(prepared.iterdir()):
                if not path.is_socket():
                    archive.add(path, arcname=path.name)
        return content.getvalue()
