"""Runs the soak test and prints its table; exit code 1 if there is a failure."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.damage import damages, flips
from tests.soak.files import make
from tests.soak.interruptions import Stages, full_disks, kills
from tests.soak.table import new_table, printed

PARTS = ("kills", "flips", "damage", "disk")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=None, help="by default another one in every run")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    args = parser.parse_args()
    parts = args.only.split(",")
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    generator = random.Random(seed)
    print(f"seed {seed}", flush=True)
    table = new_table()
    folder = Path(tempfile.mkdtemp(prefix="frcnn-soak-"))
    for part in parts:
        until = time.monotonic() + 60 * args.minutes / len(parts)
        if part in ("kills", "disk"):
            stages = Stages(folder / part)
            until = time.monotonic() + 60 * args.minutes / len(parts)
            (kills if part == "kills" else full_disks)(stages, generator, until, table)
        else:
            (flips if part == "flips" else damages)(make(folder / part), generator, until, table)
        print(printed(table), flush=True)
    failures = [failure for row in table.values() for failure in row.failures]
    print(*failures, sep="\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
