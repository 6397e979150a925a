"""Checking that a bundle is what it says: every finding at once, none of its code run.

The bundle is read as its JSON (or YAML) files, whoever wrote them: against MONAI's schema
and the properties that MONAI's workflows need, training against inference, the networks
against the metadata, the weights against the network, and every form like the base.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medseg.bundle.config import (
    SEPARATOR,
    Config,
    Form,
    find_bundle,
    find_config,
    iterate_texts,
    merge_files,
    read_forms,
    split_key,
    value_at,
)
from medseg.bundle.consistency import check_label_names, find_disagreements
from medseg.bundle.dry_forward import check_weights, try_networks
from medseg.bundle.load import open_bundle
from medseg.bundle.locator_name import check_fits, find_locator, read_locator
from medseg.data.cases.case import guess_group
from medseg.data.splits import read_split
from medseg.errors import BundleError, DatasetError, MedsegError, as_finding
from medseg.findings import Finding
from medseg.options import SPLIT_PARTS

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
