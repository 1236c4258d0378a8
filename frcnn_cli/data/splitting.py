"""Splitting a data set at random into training, validation and test images.

Images that belong together stay together, because a detector that was trained on one of them has seen the others:
images with the same content, and frames of one clip (their names differ only in a number, and each looks like the one
before). Each class gets its share of every split as far as these groups permit (Sechidis et al., ECML PKDD 2011).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.image import Image
from frcnn_cli.core.names import stem
from frcnn_cli.data.dataset import Dataset, Sample

_NUMBER = re.compile(r"\d+")
_COPY = re.compile(r"_(?:jpg|jpeg|png|bmp)\.rf\.[0-9a-zA-Z]+$")  # Roboflow's augmented copies of one picture
_SIDE = 24  # pixels of a thumbnail
_ALIKE = 0.9  # minimum correlation of the thumbnails of two frames of one clip

Thumbnail = NDArray[np.float32]


def thumbnail(image: Image) -> Thumbnail:
    """What frames of a clip are compared by: 24 x 24 gray values with mean 0 and length 1, or 0 for a plain image."""
    gray = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    found: Thumbnail = small / length if length > 0 else small
    return found


def split_dataset(
    dataset: Dataset,
    shares: Mapping[str, float],
    digests: Mapping[str, str],
    thumbnails: Mapping[str, Thumbnail],
    seed: int = 0,
) -> list[Dataset]:
    """The parts of a data set, in the order of `shares`.

    Args:
        shares: the fraction of the images for each split; they sum to 1.
        digests, thumbnails: of each image, by key.

    Raises:
        DataError: a split would have no image.
    """
    groups = group_images([sample.ref.key for sample in dataset.samples], digests, thumbnails)
    samples = {sample.ref.key: sample for sample in dataset.samples}
    assigned = _assign(groups, samples, len(dataset.classes), list(shares.values()), seed)
    found = []
    for number, split in enumerate(shares):
        keys = {key for group, to in zip(groups, assigned, strict=True) if to == number for key in group}
        if not keys:
            raise DataError(
                f"split {split} would have no image: the {len(dataset)} images form {len(groups)} group(s) that must"
                " stay together",
                "Ask for fewer splits, or split the images by hand",
            )
        kept = tuple(sample for sample in dataset.samples if sample.ref.key in keys)
        found.append(replace(dataset, split=split, samples=kept, notes=(), title=""))
    return found


def group_images(
    keys: Sequence[str], digests: Mapping[str, str], thumbnails: Mapping[str, Thumbnail]
) -> list[list[str]]:
    """Images that belong together, in the order of their first."""
    first = {key: key for key in keys}

    def root(key: str) -> str:
        while first[key] != key:
            key = first[key]
        return key

    def join(a: str, b: str) -> None:
        a, b = sorted((root(a), root(b)))
        first[b] = a

    by_content: dict[str, str] = {}
    for key in keys:
        join(by_content.setdefault(digests[key], key), key)
    clips: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    copies: dict[str, str] = {}
    for key in keys:
        bare = stem(key.rpartition("/")[2])
        name = key.rpartition("/")[0] + "/" + _COPY.sub("", bare)
        if _COPY.search(bare):
            join(copies.setdefault(name, key), key)
        for number in _NUMBER.finditer(name):  # any of them may count the frames: f1_640x480
            clips[name[: number.start()], name[number.end() :]].append((int(number[0]), key))
    for frames in clips.values():
        frames.sort()
        for (_, before), (_, after) in pairwise(frames):
            if float(thumbnails[before] @ thumbnails[after]) >= _ALIKE:
                join(before, after)
    groups: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        groups[root(key)].append(key)
    return list(groups.values())


def _assign(
    groups: Sequence[Sequence[str]],
    samples: Mapping[str, Sample],
    num_classes: int,
    shares: Sequence[float],
    seed: int,
) -> list[int]:
    """The split of each group: groups with rare classes first, each to the split that lacks most of them."""
    counts = np.zeros((len(groups), num_classes + 1))  # images with each class, and images
    for i, group in enumerate(groups):
        for key in group:
            counts[i, np.unique(samples[key].truth.labels)] += 1
            counts[i, num_classes] += 1
    wanted = np.outer(shares, counts.sum(axis=0))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(groups))
    assigned = [0] * len(groups)
    left = set(order.tolist())
    while left:
        remaining = counts[sorted(left)].sum(axis=0)
        present = np.flatnonzero(remaining[:num_classes] > 0)
        # The class with the fewest images left, then images without objects.
        rarest = int(present[remaining[present].argmin()]) if len(present) else num_classes
        these = [i for i in order.tolist() if i in left and counts[i, rarest] > 0]
        for i in sorted(these, key=lambda i: -counts[i, num_classes]):
            lack = wanted[:, rarest]
            best = np.flatnonzero(lack == lack.max())
            best = best[wanted[best, num_classes] == wanted[best, num_classes].max()]
            to = int(best[rng.integers(len(best))])
            assigned[i] = to
            wanted[to] -= counts[i]
            left.discard(i)
    return assigned
