"""The detector: image transform, conv layers, RoI head, and the way from an image to detections.

Glossary: B images, R RoIs, K classes, C channels; logits are before softmax, deltas as in `roi.box_coder`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frcnn_cli.core.annotations import Detections
from frcnn_cli.core.boxes import Boxes, as_boxes
from frcnn_cli.core.decoding import AnyImage, as_image
from frcnn_cli.core.errors import FrcnnError, UsageError
from frcnn_cli.core.image import Image
from frcnn_cli.detections.nms import Thresholds, detections_from_scores
from frcnn_cli.detector import identity
from frcnn_cli.detector.class_vectors import ClassVectors
from frcnn_cli.detector.config import NO_PROPOSALS, ModelConfig, image_transform
from frcnn_cli.detector.files import StoredModel, read_model, write_model
from frcnn_cli.detector.folding import DetectionLayers
from frcnn_cli.detector.initialisation import WithoutInitialisation
from frcnn_cli.detector.maps import are_finite, overflow, round_maps, rounded_for_head
from frcnn_cli.detector.precision import DTYPES, MAP_DTYPES, set_precision
from frcnn_cli.detector.pretrained.models import is_pretrained
from frcnn_cli.detector.pretrained.weights import read_pretrained
from frcnn_cli.detector.rpn.network import RegionProposalNetwork
from frcnn_cli.detector.tensor_file import check_tensors
from frcnn_cli.features.backbones import build_network
from frcnn_cli.features.backbones.backbone import Backbone, ConvsAndLinear, is_new
from frcnn_cli.features.transform import ImageTransform
from frcnn_cli.proposals.limits import Limits
from frcnn_cli.proposals.propose import propose
from frcnn_cli.proposals.registry import load_registry
from frcnn_cli.proposals.source import ProposalSource
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.roi.head import ConvFullyConnectedHead, ConvHead, FullyConnectedHead, RoIHead, to_channels_last
from frcnn_cli.roi.levels import Map, Maps, Scale, Scales, mapped
from frcnn_cli.roi.pooler import RoIPooler
from frcnn_cli.roi.rois import RoIs
from frcnn_cli.roi.score import Scores, score_boxes
from frcnn_cli.roi.vectors import vectors_of_boxes
from frcnn_cli.system.device import choose_device


class Detector(nn.Module):
    """Fast R-CNN: one conv pass per image, then RoI pooling and the head for every proposal.

    detector = Detector.load("runs/bccd")
    found = detector.detect("img.jpg")
    found.boxes, found.scores, found.names
    """

    def __init__(self, config: ModelConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.precision = "float32"
        self.conv = backbone.conv
        self.head = make_head(config, backbone)
        self.rpn = RegionProposalNetwork(config.rpn, backbone.channels) if config.rpn else None
        self._conv_for_detection = DetectionLayers()
        self.class_vectors: ClassVectors | None = None  # in place of the class layer; boxes are then the proposals
        self.outputs_are_random = False  # whether classes and boxes are untrained, see `untrained`
        self.hidden_is_random = False  # whether the hidden layers are untrained, see `untrained`
        self.rounded = False  # whether the weights were ever rounded; they stay so in float32
        self.exact_ids: tuple[str, str] | None = None  # model_id and features_id before the weights were rounded

    # The network.

    def forward(self, images: Map, rois: RoIs, *, from_maps: bool = False) -> tuple[Tensor, Tensor]:
        """The network. Training, validation and detection all call it.

        Args:
            images: float32 [B, 3, h, w], resized and normalised; or, with `from_maps`, conv maps [B, C, h', w'], or
                the levels of a pyramid, that `features` computed before.
            rois: boxes in original pixels, and the scale of each image.

        Returns:
            float32 logits [R, K+1], background first, and deltas [R, K+1, 4].
        """
        maps = images if from_maps else self.features(cast(Tensor, images))  # [B, C, h / stride, w / stride]
        logits, deltas = self.head(maps, rois)  # [R, K+1], [R, K+1, 4]
        return logits, deltas

    def features(self, images: Tensor) -> Map:
        """The conv maps [B, C, h / stride, w / stride] of images [B, 3, h, w]; of a feature pyramid, a tuple of them.
        Layers that are not trained record no gradient, because neither their input nor their weights require one."""
        conv = self.conv if torch.is_grad_enabled() or self.training else self._conv_for_detection.of(self.conv)
        maps: Map = conv(images.to(DTYPES[self.precision]))
        return maps

    def forget(self) -> None:
        """Discards what was computed from the weights: hashes and folded layers. Changes in place are noticed without
        it, but new weights may lie at the address of earlier ones."""
        self._conv_for_detection = DetectionLayers()
        if self.rpn is not None:
            self.rpn.conv_for_detection = DetectionLayers()
        for module in (self, self.conv):
            module.__dict__.pop("_known_hashes", None)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.forget()
        return self

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        loaded = super().load_state_dict(state_dict, strict, assign)
        self.forget()
        return loaded

    # From an image to detections.

    def detect(
        self,
        image: AnyImage,
        boxes: Boxes | None = None,
        thresholds: Thresholds | None = None,
        dtype: str = "float16",
    ) -> Detections:
        """The objects in an image: proposals (unless given), conv map, scores, suppression.

        Args:
            image: an `Image`, a path, a PIL image, or uint8 [H, W, 3] RGB.
            boxes: float32 [N, 4] proposals; by default from the source that the model was trained with.
            thresholds: by default those of the recipe.
            dtype: "float16" or "float32", to which conv maps are rounded, as in `frcnn features`.

        Raises:
            ImageError: the image cannot be read. SourceError: the proposal source cannot be used.
        """
        image = as_image(image)
        source = self.source() if boxes is None else None
        if source is not None and self.shares_maps(source):
            exact, scales = self.feature_map(image, "float32")  # as `frcnn proposals` computes them
            boxes = self.propose(image, source, exact, scales)
            maps: Maps = rounded_for_head(exact, dtype, image.key)
        else:
            maps, scales = self.feature_map(image, dtype)
            if source is not None:
                boxes = self.propose(image, source, maps, scales)
        assert boxes is not None
        return self.detect_in_maps(maps, boxes, scales, image.height, image.width, thresholds)

    def detect_in_maps(
        self,
        maps: Maps,
        boxes: Boxes,
        scales: Scales,
        height: int,
        width: int,
        thresholds: Thresholds | None = None,
    ) -> Detections:
        """The detections of an image of `height` x `width` pixels, from its conv maps and proposals."""
        scores = self.score(maps, boxes, scales, height, width)
        return detections_from_scores(*scores, thresholds or self.thresholds, classes=self.classes)

    def propose(self, image: Image, source: ProposalSource, maps: Maps, scales: Scales) -> Boxes:
        """The proposals [N, 4] of a source for an image, within the limits that the model was trained with. A source
        that reads the conv maps of this detector gets `maps`; others read the image."""
        shared = (maps, scales) if self.shares_maps(source) else None
        return propose(image, source, self.limits, maps=shared).boxes

    def shares_maps(self, source: ProposalSource) -> bool:
        """Whether a source reads the conv maps that this detector computes."""
        return source.reads_maps_of(self)

    @torch.inference_mode()
    def feature_map(self, image: Image, dtype: str = "float16") -> tuple[Maps, Scales]:
        """The conv map of one image, or its maps if the recipe uses several scales.

        Args:
            dtype: "float16" or "float32", to which the maps are rounded. `detect` rounds as `frcnn features` does, so
                that both give the same boxes.

        Returns:
            [1, C, h, w] on the device of the model (a tuple of them for a pyramid), and resized pixels per original
            pixel (a pair if they differ along x and y); lists for several scales.

        Raises:
            FeatureError: a value of the map is too large for float16, or NaN.
        """
        if dtype not in MAP_DTYPES:
            raise ValueError(f"dtype must be 'float16' or 'float32', not {dtype!r}")
        maps: list[Map] = []
        scales: list[Scale] = []
        for transform in self.transforms:
            pixels, scale = transform(image.pixels)
            features = round_maps(self.features(pixels[None].to(self.device)), dtype)
            if not bool(are_finite(features).all()):
                raise overflow(image.key, dtype)
            maps.append(features)
            scales.append(scale)
        return (maps[0], scales[0]) if len(maps) == 1 else (maps, scales)

    def score(self, maps: Maps, boxes: Boxes, scales: Scales, height: int, width: int) -> Scores:
        """Class probabilities [N, K+1] and boxes [N, K, 4] of proposals, from the maps of `feature_map`.

        Boxes are refined unless the recipe sets `detection.refine` to false; only the first `detection.proposals`
        proposals are scored; boxes smaller than `detection.min_size` have probability 0.
        """
        rule, margins = self.recipe.detection, self.config.network.classifier == "svm"
        boxes = as_boxes(boxes)[: rule.proposals or None]
        if self.class_vectors is not None:
            probabilities = self.class_vectors.probabilities(
                self.vectors(maps, boxes, scales, self.class_vectors.layer, classify=False)[0]
            )
            return Scores(probabilities, np.repeat(boxes[:, None], len(self.classes), axis=1))
        here = mapped(lambda one: one.to(self.device), maps)
        less = self.recipe.targets.less
        scores = score_boxes(self._from_maps, here, boxes, scales, height, width, rule.refine, margins, less)
        if rule.min_size:
            small = (scores.boxes[..., 2:] - scores.boxes[..., :2] < rule.min_size).any(axis=2)
            scores.probabilities[:, 1:][small] = 0
        return scores

    def vectors(
        self, maps: Maps, boxes: Boxes, scales: Scales, layer: str = "hidden", classify: bool = True
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A vector per box, from the maps of `feature_map`, and its class probabilities.

        Args:
            boxes: float32 [N, 4] in original pixels.
            layer: "hidden": the output of the last hidden layer; "pooled": the pooled map, C * H * W numbers; "mean":
                its mean over the bins, C numbers.
            classify: whether the probabilities are needed; otherwise they may be [N, 0].

        Returns:
            float32 [N, D] vectors and [N, K+1] probabilities, background first.
        """
        if layer not in ("hidden", "pooled", "mean"):
            raise ValueError(f"layer must be 'hidden', 'pooled' or 'mean', not {layer!r}")
        here = mapped(lambda one: one.to(self.device), maps)
        margins = self.config.network.classifier == "svm"
        return vectors_of_boxes(self.head, here, as_boxes(boxes), scales, layer, classify, margins)

    def _from_maps(self, maps: Map, rois: RoIs) -> tuple[Tensor, Tensor]:
        return self(maps, rois, from_maps=True)  # type: ignore[no-any-return]

    # What the model is and was trained with.

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that labels index."""
        return self.config.classes if self.class_vectors is None else self.class_vectors.classes

    @property
    def recipe(self) -> Recipe:
        """The recipe that the model was trained with, as far as it is known."""
        return self.config.as_recipe

    @property
    def thresholds(self) -> Thresholds:
        """The recipe's thresholds for a single image."""
        return Thresholds.of_one_image(self.recipe.detection)

    @property
    def transforms(self) -> tuple[ImageTransform, ...]:
        """How an image is resized and normalised: one transform per scale."""
        sides = self.recipe.images.test_short_sides
        one = self.config.transform
        return tuple(dataclasses.replace(one, short_side=side) for side in sides) if sides else (one,)

    @property
    def limits(self) -> Limits:
        """The number and size of the proposals that the model was trained with."""
        return Limits(self.config.proposals["max_boxes"], self.config.proposals["min_size"])

    def source(self) -> ProposalSource:
        """The proposal source that the model was trained with.

        Raises:
            SourceError: it is not installed, or in another version that cannot make the same boxes.
            UsageError: its options have changed.
        """
        return load_registry().restored(self.config.proposals["source"]).in_detector(self)

    def set_recipe_values(self, **values: Any) -> None:
        """Changes values of the recipe that detection reads, for example
        `detector.set_recipe_values(detection__refine=False)`.

        Raises:
            UsageError: an unknown value, or one that the layers of the model depend on.
        """
        named = {name.replace("__", "."): value for name, value in values.items()}
        for name in named:
            if not name.startswith("detection.") and name != "network.classifier":
                raise UsageError(f"{name} cannot be changed in a model", "Change a value of the section detection")
        self.config = self.config.with_recipe_values(named)

    @property
    def device(self) -> torch.device:
        return self.head.cls_score.weight.device

    @property
    def model_id(self) -> str:
        """A hash that identifies the model, whatever its precision; see `identity`."""
        return self.exact_ids[0] if self.exact_ids else identity.model_id(self)

    @property
    def features_id(self) -> str:
        """A hash that identifies the conv maps that the model computes; see `identity`."""
        return self.exact_ids[1] if self.exact_ids else identity.features_id(self)

    # Files, devices, precision.

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", precision: str = "float32") -> Self:
        """Reads a model: the folder of a run, a `.safetensors` file, or the name of a pretrained detector.

        Args:
            path: a path, or a name that `frcnn models` lists ("coco" is the smallest); its weights are downloaded once.
            device: "auto" (the GPU if there is one), "cpu", "cuda" or "cuda:N".
            precision: "float32", "bfloat16", or "float16" on a GPU; see `to_precision`.

        Raises:
            FileFormatError: not a model of frcnn, damaged, of a newer version, or with missing or wrong tensors.
            FrcnnError: the file cannot be read, or the machine lacks the device or its precision.
        """
        chosen = choose_device(str(device))
        return cls.of_stored(
            read_pretrained(str(path)) if is_pretrained(str(path)) else read_model(Path(path)), chosen, precision
        )

    @classmethod
    def of_stored(cls, stored: StoredModel, device: torch.device, precision: str = "float32") -> Self:
        """A model that was read, in the mode for detection. Raises FileFormatError for missing or wrong tensors."""
        config, tensors = stored.config, stored.tensors
        model = cls.without_weights(config)  # allocates no memory before the shapes are checked
        check_tensors(model.state_dict(), tensors, stored.path)
        if stored.version == 1:
            tensors["head.fc6.weight"] = to_channels_last(tensors["head.fc6.weight"], model.head.pooler.bins)
        if any(buffer.is_meta for name, buffer in model.named_buffers() if name not in tensors):
            model = cls(config, build_network(config.network))  # buffers that are computed, not stored
        model.load_state_dict(tensors, assign=True)
        # Images are decoded channels last, and conv layers on a CPU are about twice as fast in that order.
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.eval().to_precision(precision)

    @classmethod
    def without_weights(cls, config: ModelConfig) -> Self:
        """A detector on the meta device, whose weights are loaded afterwards."""
        with torch.device("meta"), WithoutInitialisation():
            return cls(config, build_network(config.network))

    @classmethod
    def untrained(cls, recipe: Recipe, weights: str, device: str = "auto") -> Self:
        """A detector with the conv layers of a classification network, for computing conv maps; its head is random.

        Args:
            recipe: only its network and images matter.
            weights: as in `features.backbones.build`; with "none", the weights that `frcnn train --seed 0` starts with.
        """
        chosen, network = choose_device(device), recipe.network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            backbone = build_network(network, weights)
            config = ModelConfig(network, ("none",), image_transform(recipe), NO_PROPOSALS, recipe=recipe.to_dict())
            made = cls(config, backbone)
        made.outputs_are_random = True
        made.hidden_is_random = weights == "none" or is_new(made.head)
        return made.to(chosen, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def save(self, path: str | Path) -> None:
        """Writes the model to one `.safetensors` file, atomically.

        Raises:
            FrcnnError: the system refuses to write, or the model was rounded to another precision.
        """
        if self.rounded:
            fix = "Load it with --precision float32 and save that"
            raise FrcnnError("a model rounded to another precision cannot be saved", fix)
        write_model(Path(path), self.config, self.state_dict())

    def to_precision(self, precision: str) -> Self:
        """Rounds conv and hidden layers, for detection only; the outputs stay float32. See `precision`."""
        set_precision(self, precision)
        return self


def make_head(config: ModelConfig, backbone: Backbone) -> RoIHead:
    """The head of a backbone: fully connected layers, conv layers, or both."""
    network, classes = config.network, len(config.classes)
    pooler = RoIPooler(network.pooling, backbone.grid, backbone.strides, backbone.cell_offsets)
    if isinstance(backbone.hidden, nn.Sequential):
        return ConvHead(backbone.hidden, pooler, classes, backbone.channels, network.class_agnostic)
    if isinstance(backbone.hidden, ConvsAndLinear):
        return ConvFullyConnectedHead(*backbone.hidden, pooler, classes, network.class_agnostic)
    return FullyConnectedHead(backbone.hidden, pooler, classes, network.dropout, config.ranks, network.class_agnostic)
