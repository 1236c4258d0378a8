"""Vectors of classes that take the place of the class layer; `inference.class_vectors` makes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import UsageError


@dataclass(frozen=True, eq=False)
class ClassVectors:
    """What a box is compared with.

    classes: the K class names. matrix: float32 [K+1, D], background first. bias: float32 [K+1].
    scale: by which similarities are multiplied before softmax.
    normalise: whether vectors of boxes are divided by their length; those of classes are already.
    layer: which vectors of boxes, as in `Detector.vectors`.
    centre: float32 [D], subtracted from vectors of boxes first; None: nothing.
    """

    classes: tuple[str, ...]
    matrix: NDArray[np.float32]
    bias: NDArray[np.float32]
    scale: float
    normalise: bool
    layer: str
    centre: NDArray[np.float32] | None = None

    @property
    def digest(self) -> str:
        """A hash of everything that determines probabilities."""
        total = hashlib.blake2b(repr((self.classes, self.scale, self.normalise, self.layer)).encode(), digest_size=16)
        for array in (self.matrix, self.bias, self.centre):
            total.update(b"" if array is None else array.tobytes())
        return total.hexdigest()

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of boxes [N, D] -> probabilities [N, K+1], background first.

        Raises:
            UsageError: the vectors have another length than those of the classes.
        """
        if vectors.shape[1] != self.matrix.shape[1]:
            have = f"vectors of boxes have {vectors.shape[1]} numbers, those of classes {self.matrix.shape[1]}"
            raise UsageError(have, "Use vectors of the same model and layer")
        if self.centre is not None:
            vectors = vectors - self.centre
        if self.normalise:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        logits = self.scale * (vectors @ self.matrix.T) + self.bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return found
