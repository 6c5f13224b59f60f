"""Exchange and gateways of a home as child processes: started, waited for, ended together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from contracts.errors import Reason, SluicegateError, Violation
from exchange.home import Home

START_TIMEOUT = 60.0
STOP_TIMEOUT = 15.0
# How a process of ours ends that says why: `str` of a SluicegateError.
_WHY = re.compile(r"([A-Z_]+): (.+)")
_FINDING = re.compile(r"  - (.+?): (.+)")


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
        self._begun: dict[str, int] = {}  # where in its log a process began to write

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
        """Start one process and wait until it serves; its address. Raises the reason that it ended with."""
        kind, path = self._wanted[name]
        with self.logs[name].open("ab") as log:
            self._begun[name] = log.seek(0, os.SEEK_END)
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
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)  # its output ends a little before it does
            code = process.poll()
            self.kill(name)
            raise self._ended(name, "did not start", code)
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
        """Until one of them ends, which is an error and ends all; or until a signal raises `KeyboardInterrupt`."""
        while True:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise self._ended(name, "ended by itself", process.returncode)
            time.sleep(0.5)

    def _ended(self, name: str, what: str, code: int | None) -> SluicegateError:
        """Why a process ended, in its own last words where it has said why."""
        log = self.logs[name]
        where = f"all that it said is in {log}"
        lines = _written(log, self._begun[name])
        told = [number for number, line in enumerate(lines) if _reason(line)]
        if code != 0 and told:
            (word, message), rest = _reason(lines[told[-1]]), lines[told[-1] + 1 :]  # type: ignore[misc]
            found = [_FINDING.fullmatch(line) for line in rest]
            violations = tuple(Violation(finding[1], finding[2]) for finding in found if finding)
            return SluicegateError(Reason(word), f"{name} {what}: {message} ({where})", violations)
        if code is None:
            why = f"it was not ready within {START_TIMEOUT:.0f} s"
        elif code < 0:
            why = f"signal {-code} ({_signal(-code)}) ended it"
        else:
            why = f"exit code {code}"
        remedy = f"look into {log}, then run sluicegate up again"
        return SluicegateError(Reason.UNAVAILABLE, f"{name} {what}: {why} ({where})", remedy=remedy)


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


def _written(log: Path, begin: int) -> list[str]:
    """The last lines that a process wrote, none of an earlier one's."""
    with log.open("rb") as file:
        file.seek(max(begin, file.seek(0, os.SEEK_END) - 65_536))
        return file.read().decode(errors="replace").splitlines()


def _reason(line: str) -> tuple[str, str] | None:
    found = _WHY.fullmatch(line)
    return (found[1], found[2]) if found and found[1] in Reason.__members__ else None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
