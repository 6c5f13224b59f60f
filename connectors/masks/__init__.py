"""Masks: each technique of a contract as an expression over columns, and the keys, vectors and ciphers behind them."""
