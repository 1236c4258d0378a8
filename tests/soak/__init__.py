"""What is too long for the test suite: random kills, bit flips, damaged files and full disks, for as long as one likes.

python -m tests.soak --minutes 20 [--seed N] [--only kills,flips,damage,disk]
"""
