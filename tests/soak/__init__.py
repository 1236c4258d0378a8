"""Tests that take too long for the test suite: random kills, bit flips, damaged files and full disks.

python -m tests.soak --minutes 20 [--seed N] [--only kills,flips,damage,disk]
"""
