"""RoI max pooling (section 2.1) and RoI align: operators with kernels of our own, Numba for CPUs, Triton for GPUs."""

from frcnn_cli.roi.pooling.align import roi_align
from frcnn_cli.roi.pooling.max_pool import roi_max_pool

__all__ = ["roi_align", "roi_max_pool"]
