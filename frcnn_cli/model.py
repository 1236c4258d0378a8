"""The detector as one thing: image transform, backbone, RoI head, classes, and the proposals it was trained with.

Saved as one `.safetensors` file, weights and a JSON description together; reading one runs no code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from frcnn_cli.annotations import Detections
from frcnn_cli.boxes import Boxes, as_boxes
from frcnn_cli.detections.nms import Thresholds
from frcnn_cli.detections.nms import detect as detections_from_scores
from frcnn_cli.device import choose_device
from frcnn_cli.errors import FeatureError, FileFormatError, FrcnnError, UsageError
from frcnn_cli.features.backbones import build
from frcnn_cli.features.backbones.backbone import Backbone
from frcnn_cli.features.transform import ImageTransform
from frcnn_cli.image import Image
from frcnn_cli.proposals.propose import Limits, propose
from frcnn_cli.proposals.registry import load_registry
from frcnn_cli.proposals.source import ProposalSource
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.recipes.sections import Network
from frcnn_cli.roi.head import HIDDEN, RoIHead, to_channels_last
from frcnn_cli.roi.levels import Maps, Scales
from frcnn_cli.roi.score import Scores, score
from frcnn_cli.weights import check_tensors, load_safely, save_safely

MODEL_FILE = "model.safetensors"
MODEL_VERSION = 3  # 1: fc6 read pooled RoIs as [C, S, S]; 2: knew only the name of the network
_METADATA_KEY = "frcnn_model"

FEATURE_DTYPES = {"float16": torch.float16, "float32": torch.float32}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ModelConfig:
    """All that detection needs besides weights.

    `proposals` describes the boxes that the model was trained with: the source (name, version, options), `max_boxes`
    and `min_size`, as `frcnn proposals` records them. `ranks` names hidden layers that truncated SVD made two of.
    `recipe` is what the model was trained with, for the record and for `detection`.

    Raises:
        ValueError: no classes, proposals that are not described so, or ranks of other layers.
    """

    network: Network
    classes: tuple[str, ...]
    transform: ImageTransform
    proposals: dict[str, Any]
    ranks: dict[str, int] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("no classes")
        if not {"source", "max_boxes", "min_size"} <= set(self.proposals):
            raise ValueError("the proposals are not told")
        if not {"name", "version", "options"} <= set(self.proposals["source"]):
            raise ValueError("the proposals' source is not told")
        if not set(self.ranks) <= set(HIDDEN) or not all(1 <= rank <= 1 << 20 for rank in self.ranks.values()):
            raise ValueError(f"the ranks are {self.ranks}")

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError where a value is missing or not what it should be."""
        transform = dict(values["transform"])
        for name in ("mean", "std"):
            transform[name] = tuple(float(v) for v in transform[name])
            if len(transform[name]) != 3:
                raise ValueError(f"{name} has {len(transform[name])} values")
        classes = tuple(str(name) for name in values["classes"])
        proposals = dict(values["proposals"])
        proposals |= {"max_boxes": int(proposals["max_boxes"]), "min_size": float(proposals["min_size"])}
        ranks = {str(name): int(rank) for name, rank in dict(values.get("ranks", {})).items()}
        network = values.get("network") or {"backbone": values["backbone"]}
        recipe = Recipe.from_dict({"network": network, **(values.get("recipe") or {})})
        described = recipe.to_dict() if values.get("recipe") else {}
        return cls(recipe.network, classes, ImageTransform(**transform), proposals, ranks, described)


class Detector(nn.Module):
    """Fast R-CNN: one conv pass an image, then every proposal through RoI pooling and the head.

    Detector.load("runs/bccd").detect(image)
    """

    def __init__(self, config: ModelConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.precision = "float32"
        self.conv = backbone.conv
        self.head = RoIHead(
            *(backbone.hidden, len(config.classes), backbone.grid, backbone.stride, config.network.dropout),
            ranks=config.ranks,
            pooling=config.network.pooling,
            shift=backbone.shift,
            class_agnostic=config.network.class_agnostic,
        )
        self._full_ids: tuple[str, str] | None = None

    def to_precision(self, precision: str) -> Self:
        """Rounds conv layers and hidden layers, for detection alone; the outputs stay float32.

        Args:
            precision: "float32", "bfloat16", or "float16" on a GPU.

        Raises:
            FrcnnError: float16 on a CPU.
        """
        if precision == "float16" and self.device.type == "cpu":
            raise FrcnnError("float16 is for GPUs", "Write --precision bfloat16, or --device cuda")
        self._full_ids = None if precision == "float32" else (self.model_id, self.features_id)
        for layer in (self.conv, *self.head.hidden.values()):
            layer.to(PRECISIONS[precision])
        self.precision = precision
        return self

    @property
    def device(self) -> torch.device:
        return self.head.cls_score.weight.device

    @property
    def model_id(self) -> str:
        """A hash of all weights, classes and the image transform: which model this is, at any precision."""
        if self._full_ids is not None:
            return self._full_ids[0]
        return self._hash_of(self, repr((self.config.network, self.config.transform, self.config.classes)))

    @property
    def features_id(self) -> str:
        """What decides a conv map: a hash of the conv weights and the image transform. Models that share it can share
        cached maps."""
        if self._full_ids is not None:
            return self._full_ids[1]
        return self._hash_of(
            self.conv, repr((self.config.network.backbone, self.config.network.fine, *self.transforms))
        )

    @staticmethod
    def _hash_of(module: nn.Module, described: str) -> str:
        digest = hashlib.blake2b(described.encode(), digest_size=16)
        for name, value in module.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def transforms(self) -> tuple[ImageTransform, ...]:
        """What is done to an image before it is looked at: once, or in each of several sizes."""
        sides = self.recipe.images.test_short_sides
        one = self.config.transform
        return tuple(dataclasses.replace(one, short_side=side) for side in sides) if sides else (one,)

    @torch.inference_mode()
    def feature_map(self, image: Image, dtype: str = "float16") -> tuple[Maps, Scales]:
        """One conv pass over one image; one for each size where the recipe looks in several.

        Args:
            dtype: "float16" or "float32", what the map is rounded to. `detect` rounds as `frcnn features` does, so
                that both ways give the same boxes.

        Returns:
            [1, C, h, w] on the model's device, and the scale in resized pixels per original pixel; lists of several.

        Raises:
            FeatureError: a value of the map does not fit float16.
        """
        maps, scales = [], []
        for transform in self.transforms:
            pixels, scale = transform(image.pixels)
            features, fine = self.conv_maps(pixels[None].to(self.device), dtype)
            if not bool(fine.all()):
                raise self.overflow(image.key, dtype)
            maps.append(features)
            scales.append(scale)
        return (maps[0], scales[0]) if len(maps) == 1 else (maps, scales)

    def conv_maps(self, pixels: Tensor, dtype: str) -> tuple[Tensor, Tensor]:
        """float32 [B, 3, h, w] on the model's device -> maps [B, C, h, w] of `dtype`, and bool [B]: all numbers are
        finite."""
        maps: Tensor = self.conv(pixels.to(PRECISIONS[self.precision])).to(FEATURE_DTYPES[dtype])
        return maps, torch.isfinite(maps).flatten(1).all(dim=1)

    def overflow(self, key: str, dtype: str) -> FeatureError:
        """What to say of a map that holds a number that is not finite."""
        if dtype == "float16":
            return FeatureError(f"the conv map of {key} overflows float16", "Add --dtype float32")
        return FeatureError(f"the conv map of {key} holds NaN", "Train anew with a lower learning rate")

    def score(self, features: Maps, boxes: Boxes, scale: Scales, height: int, width: int) -> Scores:
        """Class probabilities [N, K+1] and boxes [N, K, 4] for each proposal, from `feature_map`'s map; boxes are
        refined, unless the recipe has `detection.refine` off, and only the first `detection.proposals` looked at."""
        rule, margins = self.recipe.detection, self.config.network.classifier == "svm"
        boxes = as_boxes(boxes)[: rule.proposals or None]
        here = features.to(self.device) if isinstance(features, Tensor) else [m.to(self.device) for m in features]
        return score(self.head, here, boxes, scale, height, width, rule.refine, margins)

    @property
    def recipe(self) -> Recipe:
        """What the model was trained with, as far as it is known."""
        return Recipe.from_dict(self.config.recipe or {"network": dataclasses.asdict(self.config.network)})

    def set_classifier(self, classifier: Literal["softmax", "svm"]) -> None:
        """What the class outputs are: logits of a softmax, or margins of SVMs."""
        recipe = self.recipe.changed({"network.classifier": classifier})
        network = dataclasses.replace(self.config.network, classifier=classifier)
        self.config = dataclasses.replace(self.config, network=network, recipe=recipe.to_dict())

    def set_refine(self, refine: bool) -> None:
        """Boxes as the network moves them from now on, or as they were proposed."""
        recipe = self.recipe.changed({"detection.refine": refine})
        self.config = dataclasses.replace(self.config, recipe=recipe.to_dict())

    @property
    def thresholds(self) -> Thresholds:
        """What the recipe has become a detection, of one image by itself."""
        return Thresholds.of_one_image(self.recipe.detection)

    def detect(
        self,
        image: Image | np.ndarray[Any, np.dtype[np.uint8]],
        boxes: Boxes | None = None,
        thresholds: Thresholds | None = None,
        dtype: str = "float16",
    ) -> Detections:
        """Everything in one go: proposals (unless given), features, scores, suppression.

        Args:
            image: an `Image`, or uint8 [H, W, 3] RGB.
            boxes: float32 [N, 4] proposals; by default those of the source that the model was trained with.
            thresholds: by default the recipe's.
        """
        image = image if isinstance(image, Image) else Image.from_array(image)
        if boxes is None:
            boxes = propose(image, self.source(), self.limits).boxes
        features, scale = self.feature_map(image, dtype)
        probabilities, refined = self.score(features, boxes, scale, image.height, image.width)
        return detections_from_scores(probabilities, refined, thresholds or self.thresholds)

    @property
    def limits(self) -> Limits:
        """How many proposals, and how large, the model was trained with."""
        return Limits(self.config.proposals["max_boxes"], self.config.proposals["min_size"])

    def source(self) -> ProposalSource:
        """The proposal source that the model was trained with.

        Raises:
            SourceError: it is not installed, or of another version than in training. UsageError: its options are gone.
        """
        return load_registry().restored(self.config.proposals["source"])

    @classmethod
    def untrained(cls, recipe: Recipe, weights: str, device: str = "cpu") -> Self:
        """Conv layers as a classification network has them, for their maps alone; the head is of no use.

        Args:
            recipe: its network and images count. weights: as `features.backbones.build` has them; of "none" those that
                `frcnn train --seed 0` begins with.
        """
        chosen, network = choose_device(device), recipe.network
        nobody = {"source": {"name": "none", "version": "0", "options": {}}, "max_boxes": 0, "min_size": 0.0}
        config = ModelConfig(network, ("none",), image_transform(recipe), nobody)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = cls(config, build(network.backbone, weights, network.fine))
        return made.to(chosen, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def save(self, path: Path) -> None:
        """Writes the model to one file, whole or not at all. Raises FrcnnError where that is refused."""
        if self.precision != "float32":
            raise FrcnnError(f"a model rounded to {self.precision} cannot be saved", "Save it before it is rounded")
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        description = json.dumps({"version": MODEL_VERSION, "config": self.config.to_json()}, sort_keys=True)
        save_safely(tensors, path, {_METADATA_KEY: description})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu", precision: str = "float32") -> Self:
        """Reads a model: a run's folder or a `.safetensors` file.

        Args:
            precision: see `to_precision`.

        Raises:
            FileFormatError: not a model of ours, damaged, of a newer version, or with missing or misshapen tensors.
            FrcnnError: missing or not readable, or the device is absent, or does not have this precision.
        """
        path = Path(path)
        if path.is_dir():
            if not (path / MODEL_FILE).is_file():
                raise FrcnnError(f"{path} holds no {MODEL_FILE}", "Name a finished run, or a model file")
            path = path / MODEL_FILE
        device = choose_device(str(device))
        metadata, tensors = load_safely(path, _METADATA_KEY)
        try:
            version = int(metadata["version"])
            if version > MODEL_VERSION:
                raise FileFormatError(f"{path} was written by a newer frcnn", "Upgrade frcnn-cli")
            config = ModelConfig.from_json(metadata["config"])
            if version < 1 or (version == 1 and config.ranks):
                raise ValueError(f"version {version}")
        except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
            raise FileFormatError(f"{path} has a damaged description ({error})", "Train it again") from None
        with torch.device("meta"):  # no memory is taken before the shapes are checked
            model = cls(config, build(config.network.backbone, "none", config.network.fine))
        check_tensors(model.state_dict(), tensors, path)
        if version == 1:
            tensors["head.fc6.weight"] = to_channels_last(tensors["head.fc6.weight"], model.head.grid)
        model.load_state_dict(tensors, assign=True)
        # Channels last is the order that images are decoded in; conv layers on a CPU are about twice as fast in it.
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.eval().to_precision(precision)


def image_transform(recipe: Recipe) -> ImageTransform:
    """What a detector of this recipe does to images."""
    images = recipe.images
    normalisation = images.normalisation
    if normalisation == "backbone":
        with torch.device("meta"):
            normalisation = build(recipe.network.backbone).normalisation
    return ImageTransform.as_trained(normalisation, images.short_side, images.long_side)
