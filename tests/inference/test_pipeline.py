"""Images through the conv layers in batches, and what is written behind."""

import threading

import numpy as np
import pytest
import torch

from frcnn_cli.core.errors import FeatureError, FrcnnError, ImageError
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.inference.pipeline import FailedImage, FeaturePipeline, MappedImage
from frcnn_cli.system.background import BackgroundCalls
from tests.detector.test_model import detector


def pictures(tmp_path, sizes):
    for i, size in enumerate(sizes):
        ref = ImageRef(f"{i}", tmp_path / f"{i}")
        if size is None:
            yield ref, ImageError(f"{i} is broken", "Mend it")
        else:
            pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
            yield ref, Image.from_array(pixels, ref.key)


@pytest.mark.parametrize("batch", [None, 1, 2, 3, 10])
def test_maps_are_those_of_single_images_in_order(tmp_path, batch):
    sizes = [(48, 64), (48, 64), (48, 64), None, (48, 64), (64, 48), (64, 48), None, (48, 64)]
    made = detector()
    pipeline = FeaturePipeline(made, "float32", batch)
    done = list(pipeline.run(pictures(tmp_path, sizes)))
    assert [one.ref.key for one in done] == [str(i) for i in range(len(sizes))]
    assert [isinstance(one, FailedImage) for one in done] == [size is None for size in sizes]
    for one in done:
        if isinstance(one, MappedImage):
            expected, scale = made.feature_map(one.image, "float32")
            torch.testing.assert_close(one.features, expected, rtol=1e-4, atol=1e-4)
            assert one.scale == scale
    assert 0 < pipeline.busy <= 1


def test_one_map_that_overflows_is_named_and_the_others_go_on(tmp_path):
    made = detector()
    with torch.no_grad():  # the first layer hands red on, a million times; less red than ImageNet has is below 0
        for layer in made.conv:
            if isinstance(layer, torch.nn.Conv2d):
                layer.bias.zero_()
        made.conv[0].weight.zero_()
        made.conv[0].weight[:, 0, 1, 1] = 1e6
    images = list(pictures(tmp_path, [(48, 64)] * 3))
    images[1] = (images[1][0], Image.from_array(np.full((48, 64, 3), 116, np.uint8), "1"))
    first, second, third = FeaturePipeline(made, "float16", 3).run(images)
    assert isinstance(first, FailedImage)
    assert isinstance(first.error, FeatureError)
    assert isinstance(third, FailedImage)
    assert isinstance(second, MappedImage)
    assert not second.features.any()


def test_nothing_to_do():
    assert list(FeaturePipeline(detector()).run(iter(()))) == []


def test_calls_behind_are_made_in_order_on_another_thread():
    made = []
    with BackgroundCalls(max_waiting=2) as behind:
        for i in range(20):
            behind(lambda i: made.append((i, threading.get_ident())), i)
    assert [i for i, _ in made] == list(range(20))
    assert {thread for _, thread in made} != {threading.get_ident()}


def test_an_error_behind_is_not_lost():
    def fail():
        raise FrcnnError("the disk is full", "Free some space")

    with pytest.raises(FrcnnError, match="disk is full"), BackgroundCalls() as behind:
        behind(fail)
    with pytest.raises(ZeroDivisionError), BackgroundCalls() as behind:
        behind(fail)
        _ = 1 // 0
