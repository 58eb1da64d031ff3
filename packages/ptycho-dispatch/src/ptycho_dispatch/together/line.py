"""The line between rank 0 and every other rank: who lives, what is said, which scan is next.

MPI does not tell that a rank has died: the others wait for it for ever, at full load. A connection does: the
system closes it with the process, whatever the process was doing, and where a whole host is gone, the system
on this side finds that out by itself. So each rank keeps one TCP connection to rank 0, on which a thread
listens. It also carries what must not wait for a collective call of all: warnings, and the dealing of scans.

Messages are JSON with their length before them. The port is open only while ranks join, and lets in who knows
the secret that MPI has brought them.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import queue
import secrets
import select
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ptycho_config.errors import EXIT_DONE, EXIT_FAILED, ConfigError
from ptycho_core.ranks import Ranks
from ptycho_dispatch.interrupt import Interruptible
from ptycho_dispatch.signals import HEARING

__all__ = ["Line", "open_line"]

_LONGEST_BYTES = 16 << 20
_JOINING_S = 20.0
#: A launcher may pass on no more of a task that has ended, and loses what it said last: it is given so long
#: to read the line, and then so long to pass it on.
_READ_S, _PASSED_ON_S = 2.0, 0.3
#: So often a thread looks whether its process was asked to stop.
_LOOKED_S = 0.2
#: A launcher sends its signal to all ranks; those that did not get it are told after so long.
_SIGNAL_FOR_ALL_S = 1.0
#: A host that is gone is found out after about this time.
_HOST_GONE_S = 7
_OF_THE_SYSTEM = (("TCP_KEEPIDLE", 3), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 4), ("TCP_USER_TIMEOUT", 7000))


class _Peer:
    """One end of a connection."""

    def __init__(self, connection: socket.socket, rank: int, host: str, process: int) -> None:
        self.rank, self.host, self.process = rank, host, process
        self.leaves = False
        self._connection = connection
        self._received = bytearray()
        self._sending = threading.Lock()
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in _OF_THE_SYSTEM:
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def fileno(self) -> int:
        return self._connection.fileno()

    def tell(self, kind: str, value: Any) -> None:
        """Send a message; where nobody is there any more, the listening end finds that out."""
        with self._sending, contextlib.suppress(OSError):
            _send(self._connection, [kind, value])

    def heard(self) -> list[Any] | None:
        """Return the messages that have come, as far as they are complete; None where the other has gone."""
        try:
            came = self._connection.recv(1 << 16)
        except OSError:
            came = b""
        if not came:
            return None
        self._received += came
        messages = []
        while len(self._received) >= 4:
            length = int.from_bytes(self._received[:4], "big")
            if length > _LONGEST_BYTES:
                return None
            if len(self._received) < 4 + length:
                break
            messages.append(json.loads(self._received[4 : 4 + length]))
            del self._received[: 4 + length]
        return messages

    def close(self) -> None:
        self._connection.close()


class Line:
    """The connections of this rank: on rank 0 to all others, on the others to rank 0.

    Attributes:
        said: on rank 0, what is done with a line that another rank wrote to its screen.
    """

    def __init__(self, ranks: Ranks, peers: list[_Peer]) -> None:
        self.said: Callable[[int, str], None] = lambda rank, text: None
        self._ranks = ranks
        self._peers = {peer.rank: peer for peer in peers}
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answer: Callable[[int, Any], Any] | None = None
        self._questions: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._woken, self._wake = os.pipe()
        self._all_left, self._closed, self._ending = threading.Event(), False, False
        self._code = EXIT_DONE
        self._asked_to_stop: int | None = None
        self._told_to_stop_s = float("inf")
        if not peers:
            self._all_left.set()
        threading.Thread(target=self._listen, name="line", daemon=True).start()

    def answer_by(self, answer: Callable[[int, Any], Any]) -> None:
        """On rank 0: answer the questions of all ranks, its own included; those that have come wait for this.

        Args:
            answer: makes an answer of a rank and its question; the thread calls it.
        """
        self._answer = answer
        os.write(self._wake, b"?")

    def ask(self, value: Any) -> Any:
        """Ask rank 0, and wait for its answer without using a processor."""
        with Interruptible():  # a signal must not take the answer away
            if self._ranks.is_first:
                self._questions.put((0, value))
                os.write(self._wake, b"?")
            else:
                self._peers[0].tell("ask", value)
            return self._answers.get()

    def say(self, text: str) -> None:
        """Let rank 0 write a line to the screen."""
        self._peers[0].tell("say", text)

    def fail(self, code: int, text: str) -> None:
        """Tell rank 0 that this rank failed by itself, so that it ends all; then wait for the end."""
        self._peers[0].tell("fail", [code, text])
        time.sleep(_HOST_GONE_S)

    def end_others(self, code: int) -> None:
        """On rank 0: end the other ranks at once, which may be waiting for this one; they are not missed."""
        self._ending = True
        for peer in self._peers.values():
            peer.tell("end", code)

    def leave(self, code: int) -> int:
        """Leave in order, when all do: nobody is missed from here on.

        Args:
            code: with which rank 0 ends; that of another rank counts for nothing.
        Returns:
            The code of rank 0.
        """
        with Interruptible():  # others may still be keeping their image
            if self._ranks.is_first:
                self._all_left.wait()
                for peer in self._peers.values():
                    peer.tell("leave", code)
                self._code = code
            else:
                self._peers[0].tell("leave", None)
                self._all_left.wait()
        self._closed = True
        return self._code

    def _listen(self) -> None:
        listening = select.poll()
        by_number = {peer.fileno(): peer for peer in self._peers.values()}
        for number in by_number:
            listening.register(number, select.POLLIN)
        listening.register(self._woken, select.POLLIN)
        while not self._closed:
            for number, _ in listening.poll(_LOOKED_S * 1000):
                if number == self._woken:
                    os.read(self._woken, 64)
                    continue
                peer = by_number[number]
                messages = peer.heard()
                if messages is None:
                    listening.unregister(number)
                    if not peer.leaves:
                        self._missed(peer)
                    continue
                for kind, value in messages:
                    self._hear(peer, kind, value)
            while self._answer is not None and not self._questions.empty():
                rank, question = self._questions.get()
                answer = self._answer(rank, question)
                if rank == self._ranks.rank:
                    self._answers.put(answer)
                else:
                    self._peers[rank].tell("answer", answer)
            self._look_for_signals()

    def _hear(self, peer: _Peer, kind: str, value: Any) -> None:
        if kind == "ask":
            self._questions.put((peer.rank, value))
        elif kind == "answer":
            self._answers.put(value)
        elif kind == "say":
            self.said(peer.rank, str(value))
        elif kind == "stop":
            self._stop(int(value))
        elif kind == "leave":
            peer.leaves = True
            self._code = int(value or 0)
            if all(one.leaves for one in self._peers.values()):
                self._all_left.set()
        elif kind == "fail" and not self._ending:
            code, text = value
            self._end_all(int(code), f"rank {peer.rank} ({peer.host}): {text}")
        elif kind == "end":
            os._exit(int(value))

    def _missed(self, peer: _Peer) -> None:
        """Another rank ended without a word."""
        if self._ending:
            return
        words = (
            f"rank {peer.rank} ({peer.host}, process {peer.process}) has died, and all ranks end. What was "
            "complete is kept; `--resume` goes on from it."
        )
        if self._ranks.is_first:
            self._end_all(EXIT_FAILED, words)
        if self._ranks.rank == 1:  # one of those that are left says so
            _say_last(words)
        os._exit(EXIT_FAILED)

    def _end_all(self, code: int, words: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        self._ending = True
        _say_last(words)
        self.end_others(code)
        os._exit(code)

    def _look_for_signals(self) -> None:
        """Where this process was asked to stop, all are; see `_stop`."""
        number = HEARING.request.first
        if number is not None and self._asked_to_stop is None:
            self._stop(number)
        if time.monotonic() >= self._told_to_stop_s:
            self._told_to_stop_s = float("inf")
            if HEARING.request.first is None:
                os.kill(os.getpid(), self._asked_to_stop or signal.SIGTERM)

    def _stop(self, number: int) -> None:
        """Pass a request to stop on, and obey it where the launcher did not bring it here as well."""
        if self._asked_to_stop is not None:
            return
        self._asked_to_stop = number
        self._told_to_stop_s = time.monotonic() + _SIGNAL_FOR_ALL_S
        for peer in self._peers.values():
            peer.tell("stop", number)


def _say_last(words: str) -> None:
    """Say a line, and wait until whoever passes on what this task says has it."""
    HEARING.last_words(words)
    end_s = time.monotonic() + _READ_S
    while time.monotonic() < end_s and _unread_bytes(2):
        time.sleep(0.01)
    time.sleep(_PASSED_ON_S)


def _unread_bytes(number: int) -> int:
    """Return how much of what was written into a pipe nobody has read yet; 0 where it is none."""
    if sys.platform == "win32":
        return 0
    import fcntl
    import termios

    unread = bytearray(4)
    try:
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            return 0
        fcntl.ioctl(number, termios.FIONREAD, unread)
    except OSError:
        return 0
    return int.from_bytes(unread, sys.byteorder)


def open_line(ranks: Ranks) -> Line:
    """Join rank 0 to the others; all ranks must call.

    Raises:
        ConfigError: a rank cannot reach rank 0.
    """
    server = socket.create_server(("", 0), backlog=ranks.count + 16) if ranks.is_first else None
    where: dict[str, Any] = {}
    if server is not None:
        names = [os.environ.get("SLURMD_NODENAME", ""), ranks.host, socket.getfqdn()]
        where = {
            "names": [name for name in dict.fromkeys(names) if name],
            "port": server.getsockname()[1],
            "secret": secrets.token_hex(16),
            "process": os.getpid(),
            "host": ranks.host,
        }
    where = ranks.from_first(where)
    joined = ranks.one(lambda: [] if server is not None else [_joined(ranks, where)])
    peers = ranks.one(lambda: joined if server is None else _let_in(server, where["secret"], ranks.count))
    if server is not None:
        server.close()
    return Line(ranks, peers)


def _joined(ranks: Ranks, where: dict[str, Any]) -> _Peer:
    names = ["localhost"] if where["host"] == ranks.host else []
    error: OSError | None = None
    for name in (*names, *where["names"]):
        try:
            connection = socket.create_connection((name, where["port"]), timeout=_JOINING_S / 2)
        except OSError as failed:
            error = failed
            continue
        _send(connection, [where["secret"], ranks.rank, ranks.host, os.getpid()])
        return _Peer(connection, 0, where["host"], where["process"])
    raise ConfigError(
        f"it cannot reach rank 0 at {where['names'][0]}, port {where['port']} ({error}). The hosts of a job "
        "must be able to connect to each other."
    )


def _let_in(server: socket.socket, secret: str, count: int) -> list[_Peer]:
    """Let the other ranks in, which have all connected; whoever else did is sent away."""
    peers: dict[int, _Peer] = {}
    end_s = time.monotonic() + _JOINING_S
    while len(peers) < count - 1:
        server.settimeout(max(0.1, end_s - time.monotonic()))
        try:
            connection, _ = server.accept()
            connection.settimeout(2.0)
            given, rank, host, process = _receive(connection)
        except (OSError, ValueError, TypeError) as error:
            if time.monotonic() > end_s:
                raise ConfigError(f"{count - 1 - len(peers)} ranks did not join ({error}).") from error
            continue
        if not hmac.compare_digest(str(given).encode(), secret.encode()):
            connection.close()
            continue
        peers[int(rank)] = _Peer(connection, int(rank), str(host), int(process))
    return [peers[rank] for rank in sorted(peers)]


def _send(connection: socket.socket, message: Any) -> None:
    data = json.dumps(message).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)


def _receive(connection: socket.socket) -> Any:
    """Read one message of somebody who is not known yet.

    Raises:
        OSError, ValueError: it is none.
    """
    length = int.from_bytes(_exactly(connection, 4), "big")
    if length > 4096:
        raise ValueError("too long for a name")
    return json.loads(_exactly(connection, length))


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise ConnectionError("it closed the connection")
        data += more
    return data
