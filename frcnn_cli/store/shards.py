"""Whether several files of a stage belong together: the shards of one run, and files that were made in the same way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import MismatchError, UsageError, listed
from frcnn_cli.core.shards import SHARD, Shard
from frcnn_cli.store.reader import StageFile


def check_shards(files: Sequence[StageFile]) -> None:
    """Checks that the shards among these files are a whole. Files that are no shards need no others.

    Raises:
        MismatchError: a shard is missing, is there twice, is one of another number of shards, or stands beside files
            that are no shards.
    """
    found: dict[Shard, Path] = {}
    others = []
    for file in files:
        text = file.provenance.get(SHARD)
        if text is None:
            others.append(file.path)
            continue
        shard = _recorded(text, file.path)
        if shard in found and found[shard] == file.path:
            raise MismatchError(f"{file.path} is named twice", "Name it once")
        if shard in found:
            raise MismatchError(f"{found[shard]} and {file.path} are both shard {shard}", "Name one of them")
        found[shard] = file.path
    if not found:
        return
    if others:
        raise MismatchError(f"{others[0]} is no shard, but {next(iter(found.values()))} is", "Name the shards only")
    first = min(found)
    for shard, path in found.items():
        if shard.count != first.count:
            raise MismatchError(
                f"{path} is a shard of {shard.count}, {found[first]} one of {first.count}", "Name shards of one run"
            )
    missing = [str(Shard(i, first.count)) for i in range(1, first.count + 1) if Shard(i, first.count) not in found]
    if missing:
        many = len(missing) > 1
        raise MismatchError(
            f"of {first.count} shards, {f'{len(missing)} are missing: ' if many else ''}{listed(missing)}"
            f"{'' if many else ' is missing'}",
            f"Compute {'them' if many else 'it'} with --shard {missing[0]}{' and so on' if many else ''}",
        )


def _recorded(text: object, path: Path) -> Shard:
    try:
        return Shard.parse(str(text))
    except UsageError:
        raise MismatchError(f"{path} records the shard {text!r}, which is none", "Compute it again") from None


def common_provenance(provenances: Sequence[dict[str, Any]], paths: Sequence[Path]) -> dict[str, Any]:
    """How all of these files were made: as if they had been one.

    The numbers of shards are dropped. Hashes of the boxes of shards become one hash.

    Raises:
        MismatchError: they were made in different ways.
    """
    for provenance, path in zip(provenances, paths, strict=True):
        difference = _difference(provenances[0], provenance)
        if difference is not None:
            raise MismatchError(
                f"{path} was made in another way than {paths[0]} ({difference} differs)",
                f"Compute it with --basis {paths[0]}" if difference == "pca.basis" else "Name files of one run",
            )
    return _joined(list(provenances))


def _joined(values: list[dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in values[0].items():
        every = [one[name] for one in values]
        if name == SHARD:
            continue
        if _is_hash_of_part(name, values[0]):
            made[name] = hashlib.blake2b("".join(sorted(every)).encode(), digest_size=16).hexdigest()
        else:
            made[name] = _joined(every) if isinstance(value, dict) else value
    return made


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The name of a value in which two provenances differ, apart from what differs between shards."""
    for name in sorted(one.keys() | other.keys()):
        if name == SHARD:
            continue
        if name not in one or name not in other:
            return name
        a, b = one[name], other[name]
        if isinstance(a, dict) and isinstance(b, dict):
            if (inner := _difference(a, b)) is not None:
                return f"{name}.{inner}"
        elif a != b and not (_is_hash_of_part(name, one) and _is_hash_of_part(name, other)):
            return name
    return None


def _is_hash_of_part(name: str, of: dict[str, Any]) -> bool:
    """Whether a value is the hash of the boxes of one shard."""
    return name == "boxes" and SHARD in of and isinstance(of[name], str)
