"""A bad network: a TCP proxy that can cut every connection after so many bytes, refuse new ones, and lose them
without a word."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from types import TracebackType

CHUNK = 64 * 1024
RESET = struct.pack("ii", 1, 0)  # linger for no time: the other side sees a reset, as of a pulled cable


class Proxy:
    """Listens on one loopback port and passes everything on to another.

    `passed` counts bytes towards the client. `cut(after=n)` resets all connections once so many more
    passed; with `stay=True` nobody gets through any more until `mend`. `freeze()` passes nothing on any more for
    who is connected, and tells neither side; who comes then gets through.
    """

    def __init__(self, port: int, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._cut_at: int | None = None
        self._stay = self._down = self._over = False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._frozen: set[tuple[socket.socket, socket.socket]] = set()
        self.passed = self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._reset_all()
        # A blocked accept is only woken by a visitor.
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        self._thread.join(5)
        self._listener.close()

    def cut(self, *, after: int, stay: bool = False) -> None:
        """Cut once `after` more bytes passed towards the client."""
        with self._lock:
            self._cut_at, self._stay = self.passed + after, stay

    def freeze(self) -> None:
        """Lose every connection there is, as a firewall that forgot it does: nobody hears of it."""
        with self._lock:
            self._frozen |= self._pairs

    def mend(self) -> None:
        """Let everything through again."""
        with self._lock:
            self._cut_at, self._down = None, False

    def spoilt(self, raw: bytes) -> bytes:
        """The bytes on their way to the client, as they were; worse proxies change them."""
        return raw

    def _listen(self) -> None:
        while not self._over:
            client, _ = self._listener.accept()
            if self._down or self._over:
                _reset(client)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            _reset(client)
            return
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        try:
            with selectors.DefaultSelector() as waiting:
                waiting.register(client, selectors.EVENT_READ, server)
                waiting.register(server, selectors.EVENT_READ, client)
                while self._pass_on(waiting, client):
                    while pair in self._frozen and not self._over:
                        time.sleep(0.05)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._pairs.discard(pair)
            for end in pair:
                _reset(end)

    def _pass_on(self, waiting: selectors.BaseSelector, client: socket.socket) -> bool:
        for key, _ in waiting.select(timeout=1):
            raw = key.fileobj.recv(CHUNK)  # type: ignore[union-attr]
            if not raw:
                return False
            key.data.sendall(self.spoilt(raw) if key.data is client else raw)
            if key.data is client and self._count(len(raw)):
                return False
        return True

    def _count(self, size: int) -> bool:
        """Count bytes towards the client; whether this is where it is cut."""
        with self._lock:
            self.passed += size
            if self._cut_at is None or self.passed < self._cut_at:
                return False
            self._cut_at, self._down = None, self._stay
            self.cuts += 1
        self._reset_all()
        return True

    def _reset_all(self) -> None:
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            for end in pair:
                _reset(end)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with contextlib.suppress(OSError):
        # Closing alone would not wake another thread that waits in a select for it.
        end.shutdown(socket.SHUT_RDWR)
    end.close()
