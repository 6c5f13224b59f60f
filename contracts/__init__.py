"""The law: what may happen. Pure values and rules, shared by everybody: no I/O, no clock, no randomness."""
