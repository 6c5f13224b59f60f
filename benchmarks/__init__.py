"""Benchmarks: the product beside what its users would otherwise take, in one run on one machine.

    python -m benchmarks.run [--quick] [--only NAME ...]

Wall times mean little on a shared machine; ratios of interleaved runs mean more, and only those are
compared with the aims. `docs/benchmarks.md` says what is measured and how to repeat it.
"""
