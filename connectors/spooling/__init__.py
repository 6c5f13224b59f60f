"""Rows on their way: those of a source in scope, masked once, into the spool, in an order only the secret decides."""
