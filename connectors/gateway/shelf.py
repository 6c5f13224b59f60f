"""The releases that stand in the spool: made once per agreement and refresh interval, then served again."""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connectors.gateway.records import Interval, held
from connectors.gateway.state import GatewayState
from connectors.releases.release import OPENING, SENT, Recipient, Release
from connectors.sent import records as sent_records
from connectors.spooling import spool as spools
from contracts.errors import Reason, SluicegateError
from contracts.instants import duration
from contracts.plan import Plan

_RELEASE_ID = re.compile(r"rel-[a-z2-7]{10}")


@dataclass(slots=True)
class Standing:
    """A release in the spool, the plan that made it, when its refresh interval ends (epoch seconds),
    and how many transfers still need it."""

    release: Release
    plan: Plan
    folder: Path
    until: int
    users: int = 0


class Shelf:
    """At most one current release per agreement. Folders 0700, removed when no longer needed."""

    def __init__(
        self,
        spool: Path,
        state: GatewayState,
        *,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
        makers: int,
        limit: int,
    ) -> None:
        """`makers` releases are made at once, while those that stand take less than `limit` bytes. The
        openings of class commitments are kept in the folder `openings` beside the spool, what recipients got
        before, as digests, in the folder `sent`."""
        self._spool, self._state, self._clock, self._entropy = spool, state, clock, entropy
        self._limit, self._openings = limit, spool.with_name("openings")
        self.sent = spool.with_name("sent")
        self._makers = threading.BoundedSemaphore(makers)
        self._lock = threading.Lock()
        self._agreements: dict[str, threading.Lock] = {}
        self._recipients: dict[tuple[str, str], threading.Lock] = {}
        self._current: dict[str, Standing] = {}
        self._leaving: list[Standing] = []

    def clean(self) -> None:
        """Remove what an earlier run left in the spool. Touches nothing that is not named as a release."""
        self._spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._spool.stat().st_mode & 0o077:
            raise SluicegateError(
                Reason.CONFIG_UNSAFE, f"the spool {self._spool} is open to others; run chmod 700 on it"
            )
        for folder in self._spool.iterdir():
            if _RELEASE_ID.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)
        for name in {folder.name for folder in self._recorded()} - self._state.sent_folders():
            shutil.rmtree(self.sent / name, ignore_errors=True)
        for release in self._state.releases_standing():
            self._state.release_removed(release)

    def _recorded(self) -> Iterator[Path]:
        if self.sent.is_dir():
            yield from (folder for folder in self.sent.iterdir() if _RELEASE_ID.fullmatch(folder.name))

    @contextmanager
    def one_at_a_time(self, agreement_digest: str) -> Iterator[None]:
        """Two pulls of one agreement never make two releases: the second waits and finds the first's."""
        with self._lock:
            lock = self._agreements.setdefault(agreement_digest, threading.Lock())
        with lock:
            yield

    def take(self, agreement_digest: str) -> Standing | None:
        """The agreement's release, while its refresh interval lasts. It is in use from now on: its folder
        stays, also past the interval, until it is given back with `done`."""
        with self._lock:
            standing = self._current.get(agreement_digest)
            if standing is None or self._clock() >= standing.until:
                return None
            standing.users += 1
            return standing

    @contextmanager
    def one_for_whom(self, recipient: Recipient, *, wait: float) -> Iterator[None]:
        """Two agreements of one consumer never make their releases of a dataset at once: each is compared with what
        was sent before, so the second has to wait until the first one was. Raises TOO_MANY_TRANSFERS when it has to
        wait for more than `wait` seconds."""
        with self._lock:
            lock = self._recipients.setdefault((recipient.consumer, recipient.dataset), threading.Lock())
        if not lock.acquire(timeout=wait):
            message = "another release of this dataset is being made for the same consumer; ask again"
            raise SluicegateError(Reason.TOO_MANY_TRANSFERS, message)
        try:
            yield
        finally:
            lock.release()

    def held(self, recipient: Recipient, *, alone: bool = False) -> Interval | None:
        """The interval that runs for this recipient's agreement, also when its release stands no more. Raises
        REFRESH_PENDING when one of another agreement forbids a release, which would stand `alone` or not."""
        running = self._state.intervals(recipient.consumer, recipient.dataset)
        return held(running, recipient.agreement_digest, recipient.purpose, alone=alone)

    def make(
        self,
        recipient: Recipient,
        plan: Plan,
        maker: Callable[[Path, str], Release],
        *,
        wait: float,
        gone: int = 0,
    ) -> Standing:
        """Make a release in a folder of its own and put it on the shelf, in use as by `take`: making it may
        have taken longer than its interval lasts. Call under `one_at_a_time` and `one_for_whom`; `gone` as for
        `GatewayState.release_made`.

        While an earlier interval lasts, as after a restart, it is that very release that is made again,
        under its own name and for the rest of its interval: masks and order follow from the agreement's
        secret and the name, so only a changed source makes another one.

        Raises REFRESH_PENDING when it would be another one, or when another agreement's interval forbids it;
        SPOOL_FULL while what stands takes the spool's limit, TOO_MANY_TRANSFERS when all makers
        are busy for `wait` seconds, and whatever `maker` raises; the folder is gone then.
        """
        before = self.held(recipient, alone=plan.alone)
        self._demand_room()
        name = before.release if before else f"rel-{base64.b32encode(self._entropy(10)).decode().lower()[:10]}"
        folder = self._spool / name
        if not self._makers.acquire(timeout=wait):
            raise SluicegateError(Reason.TOO_MANY_TRANSFERS, "the gateway is busy making other releases")
        try:
            begun = self._clock()
            folder.mkdir(mode=0o700)
            release = maker(folder, name)
            until = before.until if before else duration(plan.refresh).after(begun)
            purpose = before.purpose if before else recipient.purpose
            made = Interval(*recipient[:3], purpose, plan.alone, name, release.content_digest, until)
            self._remember(made, release, lots=plan.lots, gone=gone)
            self._keep_opening(folder, name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._makers.release()
        standing = Standing(release, plan, folder, until, users=1)
        with self._lock:
            if (old := self._current.get(recipient.agreement_digest)) is not None:
                self._leaving.append(old)
            self._current[recipient.agreement_digest] = standing
        self.sweep()
        return standing

    def _remember(self, made: Interval, release: Release, *, lots: bool, gone: int) -> None:
        """Write down what is about to leave, before anybody can have it: the files, then that they count."""
        if release.sent is None:
            self._state.release_made(made, None, release.compared, lots=lots, gone=gone)
            return
        before = self._state.sent_records(made.consumer, made.dataset).get(release.sent.definition)
        with spools.room(release.id):
            sent_records.put(release.folder / SENT, self.sent, release.id)
        try:
            self._state.release_made(made, release.sent, release.compared, lots=lots, gone=gone)
        except BaseException:
            shutil.rmtree(self.sent / release.id, ignore_errors=True)
            raise
        if before is not None:
            shutil.rmtree(self.sent / before.release, ignore_errors=True)

    def _keep_opening(self, folder: Path, name: str) -> None:
        """Put aside what opens the release's class commitment: an auditor asks for it after the release
        is gone. It holds counts and random salts, no row."""
        opening = folder / OPENING
        if opening.exists():
            self._openings.mkdir(mode=0o700, exist_ok=True)
            opening.replace(self._openings / name)

    def _demand_room(self) -> None:
        self.sweep()
        with self._lock:
            standing = [*self._current.values(), *self._leaving]
        used = sum(_size(one.release) for one in standing)
        if used >= self._limit:
            message = f"the releases in the spool take {used} bytes; the limit is {self._limit}"
            raise SluicegateError(Reason.SPOOL_FULL, message)

    def use(self, standing: Standing) -> None:
        """A transfer needs this release."""
        with self._lock:
            standing.users += 1

    def done(self, standing: Standing) -> None:
        """A transfer needs it no more."""
        with self._lock:
            standing.users -= 1
        self.sweep()

    def drop(self, agreement_digest: str) -> None:
        """Serve this release to nobody new, whatever its interval."""
        with self._lock:
            if (standing := self._current.pop(agreement_digest, None)) is not None:
                self._leaving.append(standing)
        self.sweep()

    def drop_all(self) -> None:
        """Empty the shelf: the gateway stops."""
        with self._lock:
            self._leaving.extend(self._current.values())
            self._current.clear()
            for standing in self._leaving:
                standing.users = 0
        self.sweep()

    def sweep(self) -> None:
        """Remove what is past its interval and needed by no transfer."""
        now = self._clock()
        with self._lock:
            for digest, standing in list(self._current.items()):
                if now >= standing.until:
                    self._leaving.append(self._current.pop(digest))
            going = [standing for standing in self._leaving if standing.users <= 0]
            self._leaving = [standing for standing in self._leaving if standing.users > 0]
        for standing in going:
            shutil.rmtree(standing.folder, ignore_errors=True)
            self._state.release_removed(standing.release.id)
        for name in self._state.sent_over():
            shutil.rmtree(self.sent / name, ignore_errors=True)
        self._state.forget_lots()

    def size(self) -> int:
        """How many releases stand in the spool."""
        with self._lock:
            return len(self._current) + len(self._leaving)


def _size(release: Release) -> int:
    total = 0
    for part in release.parts:
        with contextlib.suppress(FileNotFoundError):
            total += part.path.stat().st_size
    return total
