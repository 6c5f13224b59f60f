"""The policy in process: the bundle compiled once per interpreter, a locked pool of interpreters.

An interpreter takes its input and evaluates it in two calls, so two threads on one would get each
other's answers. Each is therefore lent to one thread at a time, and one that failed is thrown away.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from contracts.policy import engine_input, shipped
from contracts.policy.engine import (
    ENTRYPOINT,
    Action,
    Decision,
    Entropy,
    Timer,
    answer,
    decision_id,
    question,
    unavailable,
)
from contracts.policy.rego_library import Bundle as CompiledBundle
from contracts.policy.rego_library import Input, Interpreter, LogLevel, RegoError

DEFAULT_SIZE = 4


class _Program:
    """A bundle, or one package of it with what that needs, compiled in an interpreter of its own."""

    def __init__(self, bundle: shipped.Bundle, entrypoint: str, package: str | None = None) -> None:
        self._entrypoint = entrypoint
        try:
            modules = bundle.modules if package is None else bundle.needed_by(package)
            self._interpreter = Interpreter()
            self._interpreter.log_level = LogLevel.NONE
            for name, source in modules.items():
                self._interpreter.add_module(name, source)
            self._interpreter.add_data(bundle.data)
            self._bundle: CompiledBundle = self._interpreter.build(None, [entrypoint])
            sound = self._bundle.ok()
        except (RegoError, ValueError):
            sound = False
        if not sound:
            raise unavailable("the policy bundle does not compile; install the product again")

    def evaluate(self, document: Input) -> object:
        """The value of the entry point for that input; None when it is undefined."""
        self._interpreter.set_input(document)
        output = self._interpreter.query_bundle_entrypoint(self._bundle, self._entrypoint)
        if not output.ok() or len(output) != 1:
            return None
        expressions = output[0].expressions
        return expressions[0] if len(expressions) == 1 else None


class _Compiled:
    """The bundle, compiled in two ways. Not thread-safe: the pool lends it.

    The engine's time for each call grows with all that was compiled, so what an action grants is asked
    of a program of just the packages that it needs. The whole bundle is asked only when that grants
    nothing: for the refusal and its reasons. Both are the same rules: the entry point of the whole
    gives what the action's package grants, else a refusal.
    """

    def __init__(self, bundle: shipped.Bundle) -> None:
        self._bundle = bundle
        self._programs: dict[Action | None, _Program] = {}

    def program(self, action: Action | None) -> _Program:
        """What grants that action; of None the whole. Raises POLICY_UNAVAILABLE if it does not compile."""
        if action not in self._programs:
            package = action.value.replace("-", "_") if action else None
            entrypoint = f"sluicegate/{package}/granted" if package else ENTRYPOINT
            self._programs[action] = _Program(self._bundle, entrypoint, package)
        return self._programs[action]

    def evaluate(self, action: Action, document: dict[str, Any]) -> object:
        """The decision on that input; None when there is none."""
        stated = engine_input.build(document)
        granted = self.program(action).evaluate(stated)
        if granted is not None:
            return granted
        refused = self.program(None).evaluate(stated)
        # A grant that only one of the two knows of is none.
        return refused if isinstance(refused, dict) and refused.get("allow") is False else None


class EmbeddedEngine:
    """PolicyEngine in this process; safe to share between threads.

    At most `size` decisions run at once; one more waits up to `patience` seconds, then raises
    POLICY_UNAVAILABLE. Interpreters are made when first needed; the first one here, so that a broken
    bundle shows at start-up.
    """

    def __init__(
        self,
        bundle: shipped.Bundle | None = None,
        *,
        size: int = DEFAULT_SIZE,
        patience: float = 5.0,
        entropy: Entropy = os.urandom,
        timer: Timer = time.perf_counter,
    ) -> None:
        if size < 1:
            raise ValueError("a pool needs at least one interpreter")
        self._shipped = shipped.load() if bundle is None else bundle
        self._entropy, self._timer, self._patience = entropy, timer, patience
        self._slots = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        first = _Compiled(self._shipped)
        first.program(None)
        self._idle = [first]

    @property
    def bundle_digest(self) -> str:
        """`sha256:<hex>` of the bundle."""
        return self._shipped.digest

    def decide(self, action: Action, input: Mapping[str, Any]) -> Decision:
        """Decide in process. Raises POLICY_UNAVAILABLE when there is no clear answer."""
        started = self._timer()
        asked = decision_id(self._entropy)
        document = question(action, input, asked)
        with self._lent() as compiled:
            try:
                raw = compiled.evaluate(Action(action), document)
            except (RegoError, ValueError) as error:
                raise unavailable("the policy engine failed; nothing is allowed") from error
        return answer(
            raw, action=action, asked=asked, bundle_digest=self.bundle_digest, seconds=self._timer() - started
        )

    @contextmanager
    def _lent(self) -> Iterator[_Compiled]:
        """An interpreter that no other thread has; it comes back only after it worked."""
        if not self._slots.acquire(timeout=self._patience):
            raise unavailable(f"the policy engine was busy for {self._patience:g} seconds")
        try:
            with self._lock:
                idle = self._idle.pop() if self._idle else None
            compiled = idle if idle is not None else _Compiled(self._shipped)
            yield compiled
            with self._lock:
                self._idle.append(compiled)
        finally:
            self._slots.release()
