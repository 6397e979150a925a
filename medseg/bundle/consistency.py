"""Whether a bundle is trained on what it predicts: the same steps, network, patches and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from medseg.bundle.config import Config, Form, resolve, value_at, walk
from medseg.data.labels import mask_reading
from medseg.errors import BundleError, as_finding
from medseg.findings import Finding

_UNSEEN = frozenset({"EnsureType", "ToTensor", "CastToType", "SpatialPad", "SelectItems", "DeleteItems", "Identity"})
"""Steps that give the network the same voxels: types, and padding of patches, which the inferer does itself."""

_LOADER = "LoadImage"
_OF_MASKS = ("source_key", "mask_key", "label_key")
_INFERER_KEYS = ("roi_size", "spatial_dim")


def find_disagreements(forms: Sequence[Form]) -> Iterator[Finding]:
    """What differs between training and inference, form by form.

    Where the base trains into a folder of its own (``ckpt_dir``), and another form trains what
    `inference.json` predicts with, the base is meant to differ: that is a note.
    """
    both = [form for form in forms if {"train", "inference"} <= set(form.configs)]
    of_form = {form.name: _of_form(form) for form in both if form.owns("train") or form.owns("inference")}
    errors = [finding for finding in of_form.get("", []) if not finding.is_note]
    twins = [
        form.name for form in both if form.name and not form.owns("inference") and _is_sound(of_form.get(form.name))
    ]
    if errors and twins and _trains_apart(both[0]):
        told = f"without a form another network is trained than inference.json has, which is form {twins[0]}'s"
        of_form[""] = [Finding(str(both[0].files["train"]), "FORM_OF_WEIGHTS", told, f"train the form {twins[0]}")]
    for found in of_form.values():
        yield from found


def _trains_apart(form: Form) -> bool:
    """Whether what is trained goes into another folder than the weights that predict."""
    return value_at(form.configs["train"], "ckpt_dir") != value_at(form.configs["inference"], "ckpt_dir")


def _of_form(form: Form) -> list[Finding]:
    return [*_steps(form), *_windows(form), *_network(form)]


def _is_sound(found: Sequence[Finding] | None) -> bool:
    return found is not None and all(finding.is_note for finding in found)


def _steps(form: Form) -> Iterator[Finding]:
    inference, train = form.configs["inference"], form.configs["train"]
    wanted = _transforms(inference, value_at(inference, "preprocessing"))
    if wanted is None:
        return
    key = next((name for step in wanted if _kind(step) == _LOADER for name in _keys(step)), "image")
    seen = _on_image(wanted, key)
    for section in ("train::deterministic_transforms", "validate::preprocessing"):
        given = _transforms(train, value_at(train, section))
        if given is None:
            continue
        place = f"{form.files['train']}: {section}"
        with_mask = [_kind(step) for step in given if _needs_mask(step, key)]
        if with_mask:
            told = f"{', '.join(with_mask)} need the reference mask, so prediction goes without"
            yield Finding(place, "TRAIN_NEEDS_MASK", told, "give the bundle images that are prepared alike")
        ours = _on_image([step for step in given if not _needs_mask(step, key)], key)
        if ours != seen:
            yield as_finding(_differ(place, _first_difference(ours, seen), "preprocessing"))


def _transforms(config: Config, section: Any) -> list[Config] | None:
    """The steps of a chain as plain data; None where an expression makes it, or there is none."""
    section = resolve(config, section)
    steps = section.get("transforms") if isinstance(section, dict) else section
    if not isinstance(steps, list) or not all(isinstance(step, dict) and "_target_" in step for step in steps):
        return None
    return steps


def _needs_mask(step: Config, key: str) -> bool:
    return key in _keys(step) and any(step.get(name, key) != key for name in _OF_MASKS)


def _on_image(steps: Sequence[Config], key: str) -> list[Config]:
    """What the steps do to the image: those of masks left out, and each option of the image alone."""
    return [_of_image(step, key) for step in steps if key in _keys(step) and _kind(step) not in _UNSEEN]


def _of_image(step: Config, key: str) -> Config:
    keys, kind = _keys(step), _kind(step)
    if kind == _LOADER:
        return {"_target_": kind}
    position = keys.index(key)
    options = {
        name: value[position] if name != "keys" and _is_per_key(name, value, keys) else value
        for name, value in step.items()
        if name not in ("_target_", "keys", "allow_missing_keys")
    }
    return {"_target_": kind, **options}


def _is_per_key(name: str, value: Any, keys: Sequence[str]) -> bool:
    # Sizes and factors are lists too, one number per axis; what is given per key is text or a truth value.
    return isinstance(value, list) and len(value) == len(keys) and all(isinstance(item, str | bool) for item in value)


def _keys(step: Config) -> list[str]:
    keys = step.get("keys", [])
    return [str(key) for key in keys] if isinstance(keys, list) else [str(keys)]


def _kind(step: Config) -> str:
    """The transform's name without module and dictionary ending."""
    name = str(step.get("_target_", "")).rpartition(".")[2]
    for ending in ("Dict", "D", "d"):
        if name.endswith(ending) and len(name) > len(ending):
            return name.removesuffix(ending)
    return name


def _first_difference(ours: Sequence[Config], theirs: Sequence[Config]) -> str:
    for position, (own, other) in enumerate(zip_longest(ours, theirs), start=1):
        if own != other:
            return f"step {position} is {own or 'nothing'}, in inference {other or 'nothing'}"
    return "nothing"


def _windows(form: Form) -> Iterator[Finding]:
    """Validation and inference run the network over the same windows; training patches are as large."""
    inference, train = form.configs["inference"], form.configs["train"]
    window = resolve(inference, value_at(inference, "inferer"))
    validated = resolve(train, value_at(train, "validate::inferer"))
    place = f"{form.files['train']}: validate::inferer"
    if isinstance(window, dict) and isinstance(validated, dict):
        for name in _INFERER_KEYS:
            ours, theirs = validated.get(name), window.get(name)
            if _is_plain(ours) and _is_plain(theirs) and ours != theirs:
                yield as_finding(_differ(place, f"{name} is {ours}, in inference {theirs}", "windows"))
    roi = _without_ones(window.get("roi_size")) if isinstance(window, dict) else None
    for step in _transforms(train, value_at(train, "train::random_transforms")) or []:
        patch = _without_ones(step.get("spatial_size", step.get("roi_size")))
        if "Crop" in _kind(step) and patch and roi and patch != roi:
            told = f"training patches have {patch} voxels, windows of inference {roi}"
            yield Finding(f"{form.files['train']}: train", "PATCHES_DIFFER", told, "see whether that is meant")


def _is_plain(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and value.startswith("$"))


def _without_ones(size: Any) -> list[int] | None:
    """A size with its axes of one voxel (a slice cut from a volume) left out; None where it is no list of numbers."""
    if not isinstance(size, list) or not all(isinstance(number, int) for number in size):
        return None
    return [number for number in size if number != 1]


def _network(form: Form) -> Iterator[Finding]:
    """The network that predicts is the one that is trained, options and all."""
    trained, predicting = (_network_def(form, kind) for kind in ("train", "inference"))
    if trained is not None and predicting is not None and trained != predicting:
        names = [name for name in {**trained, **predicting} if trained.get(name) != predicting.get(name)]
        told = ", ".join(f"{name} is {trained.get(name)}, in inference {predicting.get(name)}" for name in names)
        yield as_finding(_differ(f"{form.files['train']}: network_def", told, "networks"))


def _network_def(form: Form, kind: str) -> Config | None:
    config = form.configs[kind]
    network = resolve(config, value_at(config, "network_def"))
    return network if isinstance(network, dict) else None


def _differ(place: str, told: str, what: str) -> BundleError:
    return BundleError(
        "BUNDLE_INCONSISTENT", place, told, f"give training and inference the same {what}, or train the weights again"
    )


def check_label_names(form: Form) -> Iterator[Finding]:
    """What is wrong with the labels of one form."""
    if form.owns("metadata"):
        yield from _check_names(form)
    classes = _classes(form)
    if classes is None:
        return
    for kind in ("train", "inference"):
        if form.owns(kind):
            place = f"{form.files[kind]}"
            for told in _find_miscounts(form.configs[kind], classes):
                yield as_finding(_wrong(place, f"{told}; the metadata names {classes} classes"))


def _check_names(form: Form) -> Iterator[Finding]:
    """The metadata's names count from 0 without gaps, one for each channel."""
    metadata, place = form.configs["metadata"], f"{form.files['metadata']}"
    for side, name in (("inputs", "image"), ("outputs", "pred")):
        tensor = value_at(metadata, f"network_data_format::{side}::{name}")
        if not isinstance(tensor, dict):
            yield as_finding(BundleError("BUNDLE_INCOMPLETE", place, f"there is no {side}::{name}", "describe it"))
            continue
        named, channels = tensor.get("channel_def"), tensor.get("num_channels")
        if isinstance(named, dict) and not _counts(named, channels):
            yield as_finding(_wrong(place, f"{side}::{name} has {channels} channels, channel_def {list(named)}"))
    stated, pred = metadata.get("labels"), value_at(metadata, "network_data_format::outputs::pred")
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
    channels = value_at(form.configs.get("metadata", {}), "network_data_format::outputs::pred::num_channels")
    return max(channels, 2) if isinstance(channels, int) and not isinstance(channels, bool) else None


def _find_miscounts(config: Config, classes: int) -> Iterator[str]:
    """Components that speak of another number of classes."""
    for component in walk(config):
        if not isinstance(component, dict) or not isinstance(component.get("_target_"), str):
            continue
        kind = component["_target_"].rpartition(".")[2]
        for key in ("to_onehot", "num_classes"):
            number = resolve(config, component.get(key))
            if type(number) is int and number != classes:
                yield f"{kind} has {key} {number}"
    for section in ("train::deterministic_transforms", "validate::preprocessing::transforms"):
        values = mask_reading(resolve(config, value_at(config, section))).reaching
        if values is not None and values != set(range(classes)):
            yield f"the masks of {section} hold {sorted(values)}"


def _wrong(place: str, told: str) -> BundleError:
    return BundleError("BUNDLE_LABELS", place, told)
