"""Secrets that a command prints: the client of a key management service or of an identity provider."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from contracts.errors import Reason, SluicegateError

PATIENCE = 30  # seconds that a command may take


def printed(command: Sequence[str], reason: Reason, told: str) -> bytes:
    """What a command prints to its standard output. No shell is between; what it says besides is not repeated.

    Raises `reason`, its message beginning with `told`, when the command cannot be run, fails or takes too long.
    """
    try:
        done = subprocess.run(  # noqa: S603 - what the owner of the configuration wrote there
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = {FileNotFoundError: "is not there", subprocess.TimeoutExpired: f"took over {PATIENCE} s"}
        raise SluicegateError(reason, f"{told} {why.get(type(error), 'failed')}") from None
    return done.stdout
