"""Downloads of published data sets."""

from __future__ import annotations

from pathlib import Path

from frcnn_cli.core.errors import FrcnnError, explain_os_error

# torchvision's names: year and image set of every archive.
_ARCHIVES = {"voc2007": (("2007", "trainval"), ("2007", "test")), "voc2012": (("2012", "trainval"),)}


def download_voc(name: str, output: Path) -> Path:
    """Downloads PASCAL VOC with torchvision, which verifies checksums; complete archives are not downloaded again.

    Args:
        name: "voc2007" or "voc2012". output: the folder for VOCdevkit.

    Returns:
        The folder of the data set in VOC layout.

    Raises:
        FrcnnError: an archive cannot be downloaded or unpacked.
    """
    from importlib import import_module  # torchvision, by name: data works without torch, except for downloads

    datasets, voc = import_module("torchvision.datasets"), import_module("torchvision.datasets.voc")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, output) from None
    for year, image_set in _ARCHIVES[name]:
        try:
            datasets.VOCDetection(output, year, image_set, download=True)
        except (OSError, RuntimeError) as error:
            archive = voc.DATASET_YEAR_DICT["2007-test" if (year, image_set) == ("2007", "test") else year]
            raise FrcnnError(
                f"{archive['filename']} could not be downloaded ({error})",
                f"Download it elsewhere (MD5 {archive['md5']}), put it into {output}, and run this command again",
            ) from None
    return output / "VOCdevkit" / name.upper()
