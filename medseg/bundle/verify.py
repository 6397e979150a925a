"""Checking that a bundle is what it says: every finding at once, none of its code run.

The bundle is read as its JSON (or YAML) files, whoever wrote them: against MONAI's schema
and the properties that MONAI's workflows need, training against inference, the networks
against the metadata, the weights against the network, and every form like the base.
"""

from __future__ import annotations

import ast
import hashlib
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import (
    SEPARATOR,
    Config,
    Form,
    find_bundle,
    find_config,
    iterate_texts,
    merge_files,
    read_forms,
    resolve,
    split_key,
    value_at,
)
from medseg.bundle.consistency import check_label_names, find_disagreements
from medseg.bundle.load import build_section, check_fits, find_locator, load_weights, open_bundle, read_locator
from medseg.bundle.trust import SECTIONS, select_sections
from medseg.data.cases.case import guess_group
from medseg.data.splits import read_split
from medseg.errors import BundleError, DatasetError, MedsegError, as_finding, first_line
from medseg.findings import Finding
from medseg.options import SPLIT_PARTS

if TYPE_CHECKING:
    import torch

__all__ = ["SCHEMAS", "Finding", "verify"]

SCHEMAS = {path.name: path for path in sorted(Path(__file__).parent.glob("meta_schema_*.json"))}
"""MONAI's schemas of `metadata.json` that lie beside this file (Apache-2.0), by the name that a bundle gives."""

OVER_TRAIN = ("evaluate", "multi_gpu_train", "multi_gpu_evaluate")
"""Configurations that are laid over `train.json` to be run."""


def verify(bundle: str | Path) -> list[Finding]:
    """Everything that is wrong with a bundle, and notes on it; an empty list says that it is sound.

    Args:
        bundle: The bundle's folder, or the name of one that medseg ships; a run of ``medseg.train`` is one too.

    Raises:
        BundleError: BUNDLE_NOT_FOUND.
    """
    root = find_bundle(bundle)
    forms, found = read_forms(root)
    found += _files(root, forms[0])
    found += _schema(forms)
    found += _properties(forms)
    found += _references(root, forms)
    found += [finding for form in forms for finding in check_label_names(form)]
    found += find_disagreements(forms)
    trials = [try_networks(form) for form in forms]
    found += [finding for wrong, _ in trials for finding in wrong]
    found += check_weights(root, forms[0], trials[0][1])
    found += _split(root)
    found += _locator(root, forms[0])
    if all(finding.is_note for finding in found) and (root / "models" / "model.pt").is_file():
        found += _opening(root)
    return list(dict.fromkeys(found))


def _files(root: Path, base: Form) -> Iterator[Finding]:
    """Every bundle has metadata, an inference configuration and a licence; without training it is noted."""
    for kind in ("metadata", "inference"):
        if kind not in base.files and not list((root / "configs").glob(f"{kind}.*")):
            yield as_finding(_incomplete(root / "configs", f"there is no {kind}.json", "add it"))
    if "train" not in base.files and not list((root / "configs").glob("train.*")):
        yield Finding(str(root / "configs"), "TRAIN_ABSENT", "there is no train.json", "train another bundle")
    if not (root / "LICENSE").is_file():
        yield as_finding(_incomplete(root, "there is no file LICENSE", "say under which licence the bundle is given"))


def _schema(forms: Sequence[Form]) -> Iterator[Finding]:
    import jsonschema

    for form in forms:
        if not form.owns("metadata"):
            continue
        metadata, place = form.configs["metadata"], form.files["metadata"]
        named = str(metadata.get("schema", "")).rpartition("/")[2]
        if named and named not in SCHEMAS:
            problem = f"{named} is not among those kept here: {', '.join(SCHEMAS)}"
            yield Finding(str(place), "SCHEMA_UNKNOWN", problem, "hold the file against that schema yourself")
            continue
        schema = json.loads(SCHEMAS[named or max(SCHEMAS)].read_text(encoding="utf8"))
        for error in sorted(jsonschema.Draft201909Validator(schema).iter_errors(metadata), key=str):
            # A tensor may be one of several kinds of argument; its own fault lies a level deeper.
            cause = jsonschema.exceptions.best_match([error])
            where = SEPARATOR.join(map(str, cause.absolute_path))
            problem, remedy = f"{where or 'top level'}: {cause.message[:200]}", "correct it as MONAI's schema has it"
            yield as_finding(BundleError("BUNDLE_METADATA", place, problem, remedy))
        told = metadata.get("changelog")
        if isinstance(told, dict) and metadata.get("version") not in told:
            problem = f"the changelog does not tell of version {metadata.get('version')}"
            yield as_finding(BundleError("BUNDLE_METADATA", place, problem, "add the version to it"))


def _properties(forms: Sequence[Form]) -> Iterator[Finding]:
    """What MONAI's workflows ask a bundle for, found in its files without running them."""
    from monai.bundle.properties import InferProperties, TrainProperties

    for form in forms:
        for kind, properties in (("train", TrainProperties), ("inference", InferProperties)):
            if form.owns(kind):
                yield from _property_findings(form.configs[kind], properties, form.files[kind])


def _property_findings(config: Config, properties: dict[str, Any], place: Path) -> Iterator[Finding]:
    from monai.utils import BundleProperty, BundlePropertyConfig

    for name, told in properties.items():
        key, referring = told[BundlePropertyConfig.ID], told.get(BundlePropertyConfig.REF_ID)
        if told.get(BundleProperty.REQUIRED):
            if not _is_there(config, key):
                yield as_finding(_incomplete(place, f"MONAI's property {name} is missing: {key}", f"name {key}"))
            continue
        # The validator and its interval are found in a handler, and referred to by no fixed key.
        user = value_at(config, referring) if referring and SEPARATOR in referring else None
        if isinstance(user, str) and not user.startswith("$") and user.replace("#", SEPARATOR) != f"@{key}":
            problem = f"{referring} is {user}, MONAI's property {name} is @{key}"
            yield as_finding(BundleError("BUNDLE_PROPERTY", place, problem, f"name it {key}, and refer to that"))


def _references(root: Path, forms: Sequence[Form]) -> Iterator[Finding]:
    """Every ``@key`` leads somewhere, in each form and in what is laid over the training."""
    for form in forms:
        for kind in ("train", "inference"):
            if form.owns(kind):
                yield from _dangling(form.configs[kind], form.files[kind])
    for name in OVER_TRAIN:
        path = find_config(root, name)
        if path.is_file() and "train" in forms[0].files:
            try:
                yield from _dangling(merge_files(forms[0].files["train"], path), path)
            except BundleError as error:
                yield as_finding(error)


def _dangling(config: Config, place: Path) -> Iterator[Finding]:
    from monai.bundle.reference_resolver import ReferenceResolver

    texts = (text for text in iterate_texts(config) if text.startswith(("@", "$")))
    named = {key for text in texts for key in ReferenceResolver.match_refs_pattern(text)}
    for key in sorted(named):
        # `@::x` is relative to its place, which MONAI alone resolves; `_meta_` is the metadata.
        if not key.startswith((SEPARATOR, "_meta_")) and not _is_there(config, key):
            remedy = "name it, or correct the reference"
            yield as_finding(BundleError("BUNDLE_PROPERTY", place, f"@{key} leads nowhere", remedy))


def _is_there(config: Config, key: str) -> bool:
    """Whether a key is in the configuration, or inside something that only running it would make."""
    way = split_key(key)
    place: Any = config
    for position, step in enumerate(way):
        if isinstance(place, str) and place.startswith(("@", "$", "%")):
            return True
        parent = place
        place = value_at(parent, step)
        if place is None:
            is_last = position == len(way) - 1
            return is_last and isinstance(parent, dict) and step in parent
    return True


def _split(root: Path) -> Iterator[Finding]:
    path = root / "configs" / "split.json"
    if not path.is_file():
        return
    try:
        split = read_split(path)
    except DatasetError as error:
        yield as_finding(error)
        return
    parts = {part: {guess_group(case) for case in getattr(split, part)} for part in SPLIT_PARTS}
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if shared := sorted(parts[first] & parts[second]):
            problem = f"in {first} and {second}: {', '.join(shared[:3])}"
            yield as_finding(DatasetError("SPLIT_LEAK", path, problem))


def _locator(root: Path, base: Form) -> Iterator[Finding]:
    """The bundle that finds where to look is there; one inside this bundle is sound itself, weights and all."""
    try:
        name, _ = read_locator(base.configs.get("inference", {}), base.files.get("inference", root))
        if name is None:
            return
        locator = find_locator(root, name)
    except BundleError as error:
        yield as_finding(error)
        return
    # Always further down, so this ends.
    if root in locator.parents:
        yield from verify(locator)


def _opening(root: Path) -> Iterator[Finding]:
    """The last word: `medseg predict` can open it, and its locator, which must take the same images."""
    try:
        opened = open_bundle(root)
        if opened.locator is not None:
            check_fits(open_bundle(find_locator(root, opened.locator)), opened)
    except MedsegError as error:
        yield as_finding(error)


def _incomplete(place: Path, problem: str, remedy: str) -> BundleError:
    return BundleError("BUNDLE_INCOMPLETE", place, problem, remedy)


MOST_VOXELS = 2**24
"""A patch with more voxels is not tried."""

ANY_SIZE = 64
"""For an axis that may have any size."""

_OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
}


def size_of(axis: object, n: int = 1, p: int = 1) -> int:
    """Voxels along one axis of ``spatial_shape``: a number, ``*`` for any, or a sum or product of numbers, n and p.

    >>> size_of(96), size_of("16*n", n=2), size_of("2**p * 3", p=4), size_of("*")
    (96, 32, 48, 64)

    Raises:
        ValueError: It is none of these, or too large.
    """
    if axis == "*":
        return ANY_SIZE
    if len(str(axis)) > 40:
        raise ValueError("it is no short expression")
    size = _value(ast.parse(str(axis), mode="eval").body, {"n": n, "p": p})
    if not 0 < size <= MOST_VOXELS:
        raise ValueError(f"{axis!r} gives {size} voxels")
    return size


def _value(node: ast.expr, names: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value <= MOST_VOXELS:
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, names), _value(node.right, names)
        if isinstance(node.op, ast.Pow) and not (0 <= right <= 32 and abs(left) <= 2**12):
            raise ValueError(f"{left}**{right} is out of range")
        return _OPERATORS[type(node.op)](left, right)
    raise ValueError(f"{ast.unparse(node)!r} is no number, n or p")


def try_networks(form: Form) -> tuple[list[Finding], torch.nn.Module | None]:
    """What is wrong with the networks of one form, and the network that predicts, where it can be built.

    Sections that run code or do not build, and shapes that are not those of the metadata.
    """
    found: list[Finding] = []
    network = None
    tensors = _tensors(form)
    if form.owns("inference"):
        config, source = form.configs["inference"], form.files["inference"]
        built, found = build_sections(config, source)
        network = built.get("network_def")
        if tensors:
            found += _shapes(network, tensors, f"{source}: network_def") if "network_def" in built else []
            found += _window(config, tensors[0]["spatial_shape"], f"{source}: inferer")
    if form.owns("train") and tensors and _is_other_network(form):
        source = form.files["train"]
        built, wrong = build_sections(form.configs["train"], source, ("network_def",))
        found += [*wrong, *(_shapes(built["network_def"], tensors, f"{source}: network_def") if built else [])]
    return found, network


def build_sections(
    config: Config, source: Path, sections: Sequence[str] = SECTIONS
) -> tuple[dict[str, Any], list[Finding]]:
    """The sections of a configuration, built without running its code, and why any could not be."""
    from monai.bundle import ConfigParser

    found: list[Finding] = []
    safe = [section for section in sections if not _is_refused(config, section, source, found)]
    parser = ConfigParser(select_sections(_empty_others(config, *safe), source, allow_code=False))
    built = {}
    for section in safe:
        try:
            built[section] = build_section(parser, section, source)
        except MedsegError as error:
            found.append(as_finding(error))
    return built, found


def _is_refused(config: Config, section: str, source: Path, found: list[Finding]) -> bool:
    """Whether a section is missing or would run code, which is added to ``found``."""
    try:
        if section not in config:
            problem, remedy = f"there is no {section!r}", f"an inference configuration has {', '.join(SECTIONS)}"
            raise BundleError("BUNDLE_INCOMPLETE", source, problem, remedy)
        select_sections(_empty_others(config, section), source, allow_code=False)
    except BundleError as error:
        found.append(as_finding(error))
        return True
    return False


def _empty_others(config: Config, *kept: str) -> Config:
    """The configuration, its sections empty but for those ``kept``."""
    return {**config, **{section: {} for section in SECTIONS if section not in kept}}


def check_weights(root: Path, base: Form, network: torch.nn.Module | None) -> Iterator[Finding]:
    """Whether the weights are there, are those on record, and fit the network that predicts."""
    path = root / "models" / "model.pt"
    recorded = _recorded_hash(root, base)
    if not path.is_file():
        if (root / "run.json").is_file():
            remedy = "go on with the training, or copy its weights"
            yield as_finding(BundleError("WEIGHTS_MISSING", path, "this run of a training has none", remedy))
        else:
            yield Finding(str(path), "WEIGHTS_ABSENT", "the bundle ships no weights", "train it before predicting")
        return
    given = hashlib.sha256(path.read_bytes()).hexdigest()
    if recorded and recorded.lower() != given:
        told = f"their sha256 is {given[:16]}…, on record is {recorded[:16]}…"
        yield as_finding(BundleError("WEIGHTS_CHANGED", path, told))
    try:
        if network is not None:
            load_weights(network, path)
    except BundleError as error:
        yield as_finding(error)


def _recorded_hash(root: Path, base: Form) -> str | None:
    """The weights' sha256 in metadata.json, or in large_files.yml as MONAI's model zoo writes it."""
    import yaml

    stated = base.configs.get("metadata", {}).get("weights_sha256")
    listing = next((path for path in sorted(root.glob("large_files.y*ml"))), None)
    if isinstance(stated, str) or listing is None:
        return stated if isinstance(stated, str) else None
    try:
        files = (yaml.safe_load(listing.read_text(encoding="utf8")) or {}).get("large_files", [])
        own = [file for file in files if file.get("path") == "models/model.pt" and file.get("hash_type") == "sha256"]
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError):
        return None
    return str(own[0].get("hash_val") or "") or None if own else None


def _tensors(form: Form) -> tuple[Config, Config] | None:
    """What the metadata says of the network's image and of its output; None where it says too little."""
    metadata = form.configs.get("metadata", {})
    pair = [
        value_at(metadata, f"network_data_format::{side}::{name}")
        for side, name in (("inputs", "image"), ("outputs", "pred"))
    ]
    for tensor in pair:
        is_usable = isinstance(tensor, dict) and isinstance(tensor.get("num_channels"), int)
        if not is_usable or not isinstance(tensor.get("spatial_shape"), list):
            return None
    return pair[0], pair[1]


def _is_other_network(form: Form) -> bool:
    """Whether training names a network as data, and another one than inference."""
    trained, predicting = (
        resolve(config, value_at(config, "network_def"))
        for config in (form.configs["train"], form.configs.get("inference", {}))
    )
    return isinstance(trained, dict) and trained != predicting


def _shapes(network: Any, tensors: tuple[Config, Config], place: str) -> Iterator[Finding]:
    """One run on the smallest patch: channels and voxels come out as the metadata says."""
    image, pred = tensors
    try:
        given = (1, image["num_channels"], *map(size_of, image["spatial_shape"]))
        wanted = (1, pred["num_channels"], *map(size_of, pred["spatial_shape"]))
    except (ValueError, SyntaxError) as error:
        yield as_finding(_misfit("network_data_format", f"spatial_shape: {first_line(error)}"))
        return
    try:
        found = _run(network, given)
    except (RuntimeError, ValueError, TypeError, IndexError, MedsegError) as error:
        yield as_finding(_misfit(place, f"an image of shape {given} fails: {first_line(error)}"))
        return
    if found != wanted:
        yield as_finding(_misfit(place, f"from {given} comes {found}, the metadata says {wanted}"))


def _window(config: Config, spatial_shape: Sequence[object], place: str) -> Iterator[Finding]:
    """The inferer's windows have as many axes as the network's image."""
    window = resolve(config, value_at(config, "inferer::roi_size"))
    if isinstance(window, list) and len(window) != len(spatial_shape):
        yield as_finding(_misfit(place, f"windows of {window} voxels, spatial_shape is {spatial_shape}"))


def _run(network: Any, shape: Sequence[int]) -> tuple[int, ...] | str:
    """The output's shape; its type's name where it is no tensor."""
    import math

    import torch

    if math.prod(shape) > MOST_VOXELS:
        raise ValueError(f"more than {MOST_VOXELS} voxels")
    if not isinstance(network, torch.nn.Module):
        raise TypeError(f"network_def is a {type(network).__name__}, no network")
    with torch.inference_mode():
        output = network.eval()(torch.zeros(*shape))
    return tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__


def _misfit(place: str, told: str) -> BundleError:
    return BundleError("BUNDLE_SHAPES", place, told)
