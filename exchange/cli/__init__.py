"""The command line: an ordinary client of the exchange, one module a noun.

Exit codes: 0 done; 1 not confirmed; 2 bad input or configuration; 3 not found; 4 not allowed to act;
5 refused by contract, policy or bounds; 6 wrong state or conflict; 7 try again later; 8 evidence does
not verify; 9 our own fault; 130 interrupted. `contracts.errors.TRAITS` says which reason has which.
"""
