"""Conv maps in fewer bytes: principal components, and 8 or 4 bits per value.

Neighbouring channels of a conv map vary together, so a fifth of the components holds nearly all of its variance
(`benchmarks/map_bytes.py` measures what each choice costs in mAP). The weaker components need fewer bits: `int4` gives
8 bits to one eighth of them, those with the largest variance, and 4 bits to the others.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.equality import ArrayRecord
from frcnn_cli.core.errors import FileFormatError, UsageError

FLOATS = ("float16", "float32")
DTYPES = (*FLOATS, "int8", "int4")
PCA = "pca"  # the name of the entry in a provenance

_HALF_RANGE = 7  # 4 bits hold -7 to 7
_CLIPPED = 4.5  # standard deviations; of 4 bits, a smaller step is worth more than the few values beyond
_MAX_CHANNELS = 1 << 16
_MAX_VALUES = 370_000  # of a basis: in base64 less than the megabyte that a provenance may have

Cells = NDArray[np.float32]  # [T, C], the cells of one or several maps


@dataclass(frozen=True, eq=False)
class Basis(ArrayRecord):
    """Principal components of the cells of conv maps.

    mean: float32 [C]. components: float32 [N, C], orthonormal up to the rounding to float16, that of the largest
    variance first. floor: the smallest value of the maps if they have one (0 after ReLU); decoded cells are clipped.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    floor: float | None = None

    @classmethod
    def fitted(cls, cells: Iterable[Cells], count: int) -> Self:
        """The `count` components of the largest variance of all cells together.

        Raises:
            UsageError: more components than channels.
        """
        number, lowest = 0, np.inf
        total: NDArray[np.float64] = np.zeros(1)
        products: NDArray[np.float64] = np.zeros((1, 1))
        for part in cells:
            most = min(part.shape[1], _MAX_VALUES // part.shape[1] - 1)
            if not 1 <= count <= most:
                what = f"{count} principal components of {part.shape[1]:,} channels"
                raise UsageError(
                    what, f"Use at most {most}" + (", which fit into a file" if most < part.shape[1] else "")
                )
            exact = part.astype(np.float64)
            number += len(exact)
            total = total + exact.sum(axis=0)
            products = products + exact.T @ exact
            lowest = min(lowest, float(exact.min()))
        mean = total / number
        _, vectors = np.linalg.eigh(products / number - np.outer(mean, mean))
        components = vectors[:, ::-1][:, :count].T
        return cls(_rounded(mean), _rounded(components), 0.0 if lowest >= 0 else None)

    def described(self) -> dict[str, Any]:
        """This basis in JSON, for the provenance of a file."""
        content = np.concatenate([self.mean[None], self.components]).astype("<f2").tobytes()
        return {
            "components": len(self.components),
            "channels": len(self.mean),
            "floor": self.floor,
            "basis": base64.b64encode(content).decode(),
        }

    @classmethod
    def read(cls, described: Any) -> Self:
        """The inverse of `described`. Raises ValueError: something else."""
        try:
            count, channels, floor = (described[name] for name in ("components", "channels", "floor"))
            content = base64.b64decode(described["basis"], validate=True)
        except KeyError as error:
            raise ValueError(f"it lacks {error}") from None
        except TypeError:
            raise ValueError("it is of another type") from None
        if not (isinstance(count, int) and isinstance(channels, int) and 1 <= count <= channels <= _MAX_CHANNELS):
            raise ValueError(f"{count} components of {channels} channels")
        if floor is not None and not (isinstance(floor, (int, float)) and math.isfinite(floor)):
            raise ValueError(f"a floor of {floor!r}")
        if len(content) != 2 * (count + 1) * channels:
            raise ValueError(f"{len(content)} bytes do not hold {count} components of {channels} channels")
        values = np.frombuffer(content, "<f2").reshape(count + 1, channels).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("a component that is not finite")
        return cls(values[0], values[1:], floor)


@dataclass(frozen=True)
class Coding:
    """How the cells of conv maps are stored.

    dtype: "float16", "float32", "int8" or "int4". basis: the principal components that are stored in place of the
    channels.

    Raises:
        UsageError: int4 without principal components, whose order decides which values get 8 bits.
    """

    dtype: str = "float16"
    basis: Basis | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be {', '.join(map(repr, DTYPES))}, not {self.dtype!r}")
        if self.dtype == "int4" and self.basis is None:
            raise UsageError("int4 stores principal components only", "Add --pca 96, or use --dtype int8")

    @classmethod
    def of(cls, provenance: Mapping[str, Any], path: object) -> Self:
        """The coding of a features file. Raises FileFormatError if it cannot be read."""
        try:
            basis = Basis.read(provenance[PCA]) if PCA in provenance else None
            return cls(provenance["dtype"], basis)
        except (ValueError, UsageError) as error:
            raise FileFormatError(f"{path} is damaged (the coding of its maps: {error})", "Compute it again") from None

    @property
    def of_network(self) -> str:
        """The dtype to which the network's maps are rounded before they are coded."""
        return self.dtype if self.dtype in FLOATS and self.basis is None else "float32"

    def described(self) -> dict[str, Any]:
        """What a features file records of it."""
        return {"dtype": self.dtype, **({} if self.basis is None else {PCA: self.basis.described()})}

    def encoded(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The columns of a features file with coded maps: `maps` (and `mirrored`), and, if they hold integers, `steps`
        (and `mirrored_steps`), float32 [N]: the difference between two neighbouring values of a component."""
        made = dict(columns)
        if self.dtype in FLOATS and self.basis is None:
            return made
        for name, steps in _NAMES.items():
            if name not in made:
                continue
            values: NDArray[Any] = made[name].astype(np.float32)
            if self.basis is not None:
                values = (values - self.basis.mean) @ self.basis.components.T
            if self.dtype in FLOATS:
                made[name] = values.astype(self.dtype)
            else:
                made[name], made[steps] = _quantised(values, _eight_bit(values.shape[1], self.dtype))
        return made

    def decoded(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The inverse of `encoded`, up to rounding; maps that were coded become float32.

        Raises:
            ValueError: the columns do not have the shapes of this coding.
        """
        made = dict(columns)
        for name, steps in _NAMES.items():
            if name not in made:
                continue
            values = made[name]
            if str(values.dtype) != (self.dtype if self.dtype in FLOATS else "int8"):
                raise ValueError(f"{name} of {values.dtype} in a file of {self.dtype}")
            if self.dtype not in FLOATS:
                if steps not in made:
                    raise ValueError(f"{name} without the steps of {self.dtype}")
                values = _unquantised(values, made.pop(steps), self.dtype)
            if self.basis is not None:
                if values.shape[1] != len(self.basis.components):
                    raise ValueError(f"{values.shape[1]} components, not {len(self.basis.components)}")
                values = values.astype(np.float32) @ self.basis.components + self.basis.mean
                if self.basis.floor is not None:
                    np.maximum(values, self.basis.floor, out=values)
            made[name] = values
        return made


_NAMES = {"maps": "steps", "mirrored": "mirrored_steps"}


def columns_of(name: str) -> tuple[str, ...]:
    """The columns that hold the map `name` ("maps" or "mirrored") of an image; not every file has all of them."""
    return name, _NAMES[name]


def without_basis(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of a features file with a hash in place of the principal components themselves."""
    made = dict(provenance)
    if isinstance(made.get(PCA), dict):
        basis = str(made[PCA].get("basis"))
        made[PCA] = {**made[PCA], "basis": hashlib.blake2b(basis.encode(), digest_size=16).hexdigest()}
    return made


def _rounded(values: NDArray[Any]) -> NDArray[np.float32]:
    """The values rounded to float16, the precision in which a file stores them."""
    rounded: NDArray[np.float32] = np.clip(values, -65504, 65504).astype(np.float16).astype(np.float32)
    return rounded


def _eight_bit(values: int, dtype: str) -> int:
    """How many of the values of a cell have 8 bits; they come first."""
    return values if dtype == "int8" else -(-values // 8)


def _quantised(values: Cells, eight_bit: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes int8 [T, B] and steps float32 [N]; two values of 4 bits share a byte, the first in its lower half."""
    largest = np.abs(values).max(axis=0, initial=0)
    fine, coarse = values[:, :eight_bit], values[:, eight_bit:]
    if coarse.size:
        largest[eight_bit:] = np.minimum(largest[eight_bit:], _CLIPPED * coarse.std(axis=0))
    levels = np.where(np.arange(values.shape[1]) < eight_bit, 127, _HALF_RANGE)
    steps = (largest / levels).astype(np.float32)
    divisors = np.where(steps > 0, steps, 1)
    codes = np.rint(np.concatenate([fine, coarse], axis=1) / divisors)
    codes = np.clip(codes, -levels, levels).astype(np.int8)
    nibbles = codes[:, eight_bit:]
    if nibbles.shape[1] % 2:
        nibbles = np.concatenate([nibbles, np.zeros((len(nibbles), 1), np.int8)], axis=1)
    packed = (nibbles[:, ::2] & 15) | (nibbles[:, 1::2] << 4)
    return np.concatenate([codes[:, :eight_bit], packed], axis=1), steps


def _unquantised(codes: NDArray[np.int8], steps: NDArray[np.float32], dtype: str) -> Cells:
    eight_bit = _eight_bit(len(steps), dtype)
    if steps.ndim != 1 or codes.shape[1] != eight_bit + (len(steps) - eight_bit + 1) // 2:
        raise ValueError(f"{codes.shape[1]} bytes do not hold {len(steps)} values of {dtype}")
    packed = codes[:, eight_bit:]
    low, high = (packed << 4) >> 4, packed >> 4  # shifts of signed integers keep the sign
    nibbles = np.stack([low, high], axis=2).reshape(len(codes), -1)[:, : len(steps) - eight_bit]
    return np.concatenate([codes[:, :eight_bit], nibbles], axis=1).astype(np.float32) * steps
