"""Attacks on a release, played by its own department before anybody else plays them.

    trial(plan, source, entropy=os.urandom) -> (Outcome, ...)

An attacker knows the contract, so he masks what he knows as the gate does, wherever no key is needed for
that; he knows a register of people; he has the released rows. `linkage` finds people in them, `guessing` what a
value stands for, `tracks` whom a few known places and times tell apart, `difference` what two releases
say together. Each tells its success beside what somebody without the release would reach.
"""

from connectors.reidentification.outcome import Outcome
from connectors.reidentification.trial import Released, release_to_attack, trial

__all__ = ["Outcome", "Released", "release_to_attack", "trial"]
