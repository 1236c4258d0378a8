"""RoI max pooling (section 2.1) and RoI align: PyTorch operators with kernels in Numba (CPU) and Triton (GPU)."""

from frcnn_cli.roi.pooling.align import roi_align
from frcnn_cli.roi.pooling.max_pool import roi_max_pool

__all__ = ["roi_align", "roi_max_pool"]
