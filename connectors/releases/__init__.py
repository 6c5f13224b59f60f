"""Releases: rows masked once, measured, suppressed or refused, then cut into parts; aggregates; and the dry run."""
