"""Exchange and gateways of a home as child processes: started, waited for, ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from contracts.errors import Reason, SluicegateError
from exchange.home import Home

START_TIMEOUT = 60.0
STOP_TIMEOUT = 15.0


class Town:
    """The processes of one home, be it a department's with gateways alone. A context manager: leaving it ends them all.

    `addresses` maps `exchange` and gateway names to where they listen. `logs` holds one file each.
    They end with this process however it ends: their standard input is a pipe of ours.
    """

    def __init__(self, home: Home, *, only: str | None = None) -> None:
        wanted = {"exchange": ("exchange", home.exchange)} if home.exchange.is_file() else {}
        wanted |= {path.parent.name: ("gateway", path) for path in home.gateways()}
        if not wanted:
            raise SluicegateError(
                Reason.CONFIG_INVALID,
                f"{home.root} has no exchange and no gateway; run sluicegate init, or gateway new",
            )
        if only is not None:
            if only not in wanted:
                raise SluicegateError(
                    Reason.NOT_FOUND, f"{home.root} has no {only[:60]!r}; there are {', '.join(wanted)}"
                )
            wanted = {only: wanted[only]}
        self._home, self._wanted = home, wanted
        self.addresses: dict[str, str] = {}
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.logs = {name: home.root / "logs" / f"{name}.log" for name in wanted}

    def __enter__(self) -> Town:
        (self._home.root / "logs").mkdir(exist_ok=True, mode=0o700)
        try:
            for name in self._wanted:
                self.start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str) -> str:
        """Start one process and wait until it serves; its address. Raises UNAVAILABLE with its last words."""
        kind, path = self._wanted[name]
        with self.logs[name].open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "exchange.app", kind, str(path), "--with-parent"],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        self.processes[name] = process
        line = _first_line(process, START_TIMEOUT)
        if not line.startswith("ready "):
            self.kill(name)
            raise SluicegateError(Reason.UNAVAILABLE, f"{name} did not start: {_tail(self.logs[name])}")
        self.addresses[name] = line.removeprefix("ready ").strip()
        return self.addresses[name]

    def stop(self, name: str | None = None) -> None:
        """End one process, or all: gateways first, so that their last reports arrive."""
        names = [name] if name is not None else sorted(self.processes, key=lambda each: each == "exchange")
        for each in names:
            process = self.processes.pop(each, None)
            if process is None:
                continue
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            _close_pipes(process)

    def kill(self, name: str) -> None:
        """End one process as a power cut would."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()
        _close_pipes(process)

    def wait(self) -> None:
        """Until a signal, or until one of them ends, which ends all."""
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        while not ended.is_set():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise SluicegateError(Reason.UNAVAILABLE, f"{name} ended by itself: {_tail(self.logs[name])}")
            ended.wait(0.5)


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _first_line(process: subprocess.Popen[str], timeout: float) -> str:
    lines: list[str] = []
    assert process.stdout is not None  # noqa: S101 - asked for above
    reader = threading.Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    end = time.monotonic() + timeout
    while reader.is_alive() and time.monotonic() < end:
        reader.join(0.2)
    return lines[0] if lines else ""


def _tail(path: Path) -> str:
    """The last words of a process, and where the others are."""
    text = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return f"{' '.join(text[-3:])[-600:] or 'it said nothing'} (all of it in {path})"
