"""Kernels are compiled once per machine, and compiled at all where nothing can be kept."""

import os
import subprocess
import sys

import numba

from frcnn_cli.system import jit

CODE = """
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch
SelectiveSearch().prepare()
from frcnn_cli.proposals import distinct
from frcnn_cli.proposals.selective_search import agreement, grouping, regions, segmentation
kernels = [distinct.distinct, agreement.support, grouping.group, regions.atoms, regions.describe, regions.gather,
           segmentation.segment, segmentation.sorted_edges]
print(sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    missed = [
        int(subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, check=True).stdout)
        for _ in range(2)
    ]
    assert missed == [8, 0]


def test_where_no_folder_can_be_written_it_compiles_all_the_same(monkeypatch):
    compile_really = numba.njit

    def njit(*functions, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_really(*functions, **options)

    monkeypatch.setattr(numba, "njit", njit)

    @jit.kernel()
    def twice(x):
        return 2 * x

    assert twice(21) == 42
