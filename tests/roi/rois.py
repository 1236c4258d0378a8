"""RoIs and maps for tests of pooling."""

import numpy as np
import torch
from hypothesis import strategies as st


def some_rois(rng, count, images=2, width=200, height=150):
    """Boxes inside and around a picture of that size, small ones and ones that are larger than it."""
    corners = np.sort(rng.uniform(-30, [[[width + 30], [height + 30]]], (count, 2, 2)), axis=2)
    rois = np.concatenate([rng.integers(0, images, (count, 1)), corners[:, :, 0], corners[:, :, 1]], axis=1)
    return torch.from_numpy(rois.astype(np.float32))


def some_maps(rng, channels=70, images=2, height=10, width=13, ties=False):
    values = (
        rng.integers(0, 3, (images, channels, height, width))
        if ties
        else rng.normal(size=(images, channels, height, width))
    )
    return torch.from_numpy(values.astype(np.float32))


_number = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.sampled_from([-1e30, 1e30, 3e38, -3e38, 2.0**31, -(2.0**31), 2.0**63, 1e6 * 16, -1.0, 0.0]),
)
nonsense = st.lists(st.tuples(*[_number] * 5), min_size=1, max_size=4)
