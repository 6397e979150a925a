"""Whether a bundle's parts agree on the labels: names, numbers of channels, values in the masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medseg.bundle.forms import Config, Form, at, resolved
from medseg.data.mask_steps import mask_reading
from medseg.errors import BundleError, as_finding
from medseg.findings import Finding


def label_findings(form: Form) -> Iterator[Finding]:
    """What is wrong with the labels of one form."""
    if form.owns("metadata"):
        yield from _named(form)
    classes = _classes(form)
    if classes is None:
        return
    for kind in ("train", "inference"):
        if form.owns(kind):
            place = f"{form.files[kind]}"
            for told in _miscounted(form.configs[kind], classes):
                yield as_finding(_wrong(place, f"{told}; the metadata names {classes} classes"))


def _named(form: Form) -> Iterator[Finding]:
    """The metadata's names count from 0 without gaps, one for each channel."""
    metadata, place = form.configs["metadata"], f"{form.files['metadata']}"
    for side, name in (("inputs", "image"), ("outputs", "pred")):
        tensor = at(metadata, f"network_data_format::{side}::{name}")
        if not isinstance(tensor, dict):
            yield as_finding(BundleError("BUNDLE_INCOMPLETE", place, f"there is no {side}::{name}", "describe it"))
            continue
        named, channels = tensor.get("channel_def"), tensor.get("num_channels")
        if isinstance(named, dict) and not _counts(named, channels):
            yield as_finding(_wrong(place, f"{side}::{name} has {channels} channels, channel_def {list(named)}"))
    stated, pred = metadata.get("labels"), at(metadata, "network_data_format::outputs::pred")
    if not isinstance(stated, dict) or not isinstance(pred, dict):
        return
    if not _counts(stated, len(stated)):
        yield as_finding(_wrong(place, f"labels {list(stated)} do not count from 0 without gaps"))
    named = pred.get("channel_def")
    # A single channel is the one structure; the background has none.
    of_channels = [stated.get("1")] if pred.get("num_channels") == 1 else list(stated.values())
    if isinstance(named, dict) and list(named.values()) != of_channels:
        yield as_finding(_wrong(place, f"labels are {of_channels}, channel_def is {list(named.values())}"))


def _counts(named: Config, size: Any) -> bool:
    return set(named) == {str(index) for index in range(size if isinstance(size, int) else -1)}


def _classes(form: Form) -> int | None:
    channels = at(form.configs.get("metadata", {}), "network_data_format::outputs::pred::num_channels")
    return max(channels, 2) if isinstance(channels, int) and not isinstance(channels, bool) else None


def _miscounted(config: Config, classes: int) -> Iterator[str]:
    """Components that speak of another number of classes."""
    for component in _components(config):
        kind = component["_target_"].rpartition(".")[2]
        for key in ("to_onehot", "num_classes"):
            number = resolved(config, component.get(key))
            if type(number) is int and number != classes:
                yield f"{kind} has {key} {number}"
    for section in ("train::deterministic_transforms", "validate::preprocessing::transforms"):
        values = mask_reading(resolved(config, at(config, section))).reaching
        if values is not None and values != set(range(classes)):
            yield f"the masks of {section} hold {sorted(values)}"


def _components(value: Any) -> Iterator[Config]:
    if isinstance(value, dict) and isinstance(value.get("_target_"), str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _components(inner)


def _wrong(place: str, told: str) -> BundleError:
    return BundleError("BUNDLE_LABELS", place, told, "name the classes from 0 without gaps, alike everywhere")
