"""Power cuts under the real binary: a disk that logs every write and flush, and the images a cut could have left.

docs/crash-testing.md tells how it works. `tests/power_cut/run` is the command.
"""
