"""Where a bundle lies, and what its configuration files say: plain data, read without running any of it.

A form is laid over the base as MONAI merges files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

import medseg
from medseg.errors import BundleError, as_finding, check_known, first_line
from medseg.findings import Finding

Config = dict[str, Any]

CONFIG_KINDS = ("metadata", "inference", "train")
CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
SEPARATOR = "::"
STUDY = "study"
"""Name of the form in which a bundle is trained by itself, where its shipped weights are of another."""
DEEPEST = 5
"""References that lead to each other are followed so far."""
LONGEST_CAUSE = 200
"""Characters of what a library says of a key."""
SHIPPED_ENDING = "_segmentation"
"""What the name of every shipped bundle ends with."""

MOST_NEAR = 3


def find_bundle(name: str | Path) -> Path:
    """The folder of a bundle given by path, or by the name of one that medseg ships.

    Raises:
        BundleError: There is no such folder with a `configs` inside; the shipped names are listed.
    """
    given = Path(name)
    return given.resolve() if (given / "configs").is_dir() else find_shipped(name)


def find_shipped(name: str | Path) -> Path:
    """The folder of a bundle that medseg ships.

    Raises:
        BundleError: BUNDLE_NOT_FOUND; the shipped names are listed.
    """
    package = Path(medseg.__file__).parent
    shipped_in = [package / "bundles", package.parent / "bundles"]
    for folder in (place / name for place in shipped_in):
        if (folder / "configs").is_dir():
            return folder.resolve()
    shipped = sorted(path.parent.name for place in shipped_in for path in place.glob("*/configs"))
    problem = "there is no folder 'configs' in it" if Path(name).exists() else "there is no such folder or name"
    near = near_names(str(name), shipped)
    meant = f"did you mean {' or '.join(near)}? Else " if near else ""
    remedy = f"{meant}give a bundle's folder, or one of: {', '.join(shipped)}"
    raise BundleError("BUNDLE_NOT_FOUND", name, problem, remedy)


def near_names(name: str, shipped: Sequence[str]) -> list[str]:
    """The shipped bundles that may be meant: those with the name's letters in them, else those of like spelling.

    >>> near_names("ACDC", ["acdc_mr_segmentation", "isbi_em_segmentation"])
    ['acdc_mr_segmentation']
    """
    last = Path(name).name.lower().replace("-", "_")
    within = [known for known in shipped if last and last in known]
    by_head = {known.removesuffix(SHIPPED_ENDING): known for known in shipped}
    near = get_close_matches(last.removesuffix(SHIPPED_ENDING), by_head, n=2, cutoff=0.6)
    return within if 0 < len(within) <= MOST_NEAR else [by_head[head] for head in near]


@dataclass(frozen=True)
class Form:
    """A bundle's configurations in one of its forms.

    Args:
        name: Empty for the base.
        configs: ``metadata``, ``inference`` and ``train``, as far as the bundle has them.
        files: The file last laid down for each: the form's own, or the base's.
    """

    name: str
    configs: Mapping[str, Config]
    files: Mapping[str, Path]

    def owns(self, kind: str) -> bool:
        """Whether a file of this form (of the base, any file) gives the configuration."""
        return kind in self.files and (not self.name or self.files[kind].stem == f"{kind}_{self.name}")


def read_forms(root: Path) -> tuple[list[Form], list[Finding]]:
    """The base and every form of the bundle, by name, and what could not be read.

    ``train_small.json`` makes a form ``small``, laid over ``train.json``; both may be YAML.
    """
    forms: list[Form] = []
    found: list[Finding] = []
    for name in ("", *form_names(root)):
        configs: dict[str, Config] = {}
        files = _files_of(root, name)
        wrong: list[Finding] = []
        for kind, paths in files.items():
            try:
                configs[kind] = merge_files(*paths)
            except BundleError as error:
                wrong.append(as_finding(error))
        found += wrong
        if not (name and wrong):
            forms.append(Form(name, configs, {kind: files[kind][-1] for kind in configs}))
    return forms, found


def read_form(root: Path, name: str | None) -> dict[str, Config]:
    """The bundle's train, inference and metadata configurations in a form.

    Without a form they are taken as they are, unless the shipped weights are of another form than
    the bundle is trained in; then it is trained as its study has it.

    Raises:
        UsageError: NAME_UNKNOWN.
        BundleError: A file is missing or cannot be read, or a form changes what is not there.
    """
    configs = {kind: merge_files(find_config(root, kind)) for kind in CONFIG_KINDS}
    name = name or (STUDY if configs["metadata"].get("weights_form") else None)
    if name is None:
        return configs
    check_known("NAME_UNKNOWN", [name], form_names(root), root.name)
    return configs | {kind: merge_files(*paths) for kind, paths in _files_of(root, name).items() if len(paths) > 1}


def form_names(root: Path) -> tuple[str, ...]:
    """Names of the bundle's forms, sorted."""
    files = [(kind, path) for kind in CONFIG_KINDS for path in (root / "configs").glob(f"{kind}_*")]
    return tuple(sorted({path.stem.removeprefix(f"{kind}_") for kind, path in files if path.suffix in CONFIG_SUFFIXES}))


def find_config(root: Path, name: str) -> Path:
    """The file of a configuration, JSON before YAML; the JSON file where there is none."""
    paths = [root / "configs" / f"{name}{suffix}" for suffix in CONFIG_SUFFIXES]
    return next((path for path in paths if path.is_file()), paths[0])


def merge_files(*paths: Path) -> Config:
    """What files say together, each laid over those before it, as MONAI merges them.

    A key ``a::b`` goes deeper, also into lists; ``+a`` adds to the table or list that is there.

    Raises:
        BundleError: BUNDLE_INCOMPLETE, a file is missing; BUNDLE_UNREADABLE, or there is no place for a key.
    """
    contents = [read_config(path) for path in paths]
    if len(contents) == 1 and all(map(_is_plain, contents[0])):
        return contents[0]  # As it stands: reading a data set's bundle needs no MONAI then, which is slow to import.
    from monai.bundle import ConfigParser
    from monai.bundle.utils import merge_kv

    parser = ConfigParser(config={})
    for path, content in zip(paths, contents, strict=True):
        for key, value in content.items():
            try:
                merge_kv(parser, key, value)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                problem = f"there is no place for {key} ({first_line(error)[:LONGEST_CAUSE]})"
                remedy = "correct the key, or add its parent before it"
                raise BundleError("BUNDLE_UNREADABLE", path, problem, remedy) from error
    return _require_table(parser.get(), paths[-1])


def read_config(path: Path) -> Config:
    """A configuration file as a table, its keys as they are written.

    Raises:
        BundleError: BUNDLE_INCOMPLETE, there is no such file; BUNDLE_UNREADABLE, also where a key is there twice.
    """
    if not path.is_file():
        raise BundleError("BUNDLE_INCOMPLETE", path, f"there is no {path.name}", "add it, or use another bundle")
    try:
        text = path.read_text(encoding="utf8")
        is_json = path.suffix == ".json"
        content = json.loads(text, object_pairs_hook=_table_of) if is_json else yaml.load(text, _YamlLoader)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise BundleError("BUNDLE_UNREADABLE", path, " ".join(str(error).split()), "correct the file") from error
    return _require_table(content, path)


def _require_table(content: Any, path: Path) -> Config:
    if not isinstance(content, dict):
        raise BundleError("BUNDLE_UNREADABLE", path, "not a table of settings", "correct the file")
    return content


def _is_plain(key: Any) -> bool:
    return isinstance(key, str) and key != "" and not key.startswith("+") and len(split_key(key)) == 1


def _table_of(pairs: list[tuple[str, Any]]) -> Config:
    """A table of a JSON file, in which each key stands once: MONAI would take the last and say so at most."""
    table = dict(pairs)
    if len(table) < len(pairs):
        _refuse_twice([key for key, _ in pairs])
    return table


def _refuse_twice(keys: list[Any]) -> None:
    for key, times in Counter(keys).items():
        if times > 1:
            raise ValueError(f"the key {key!r} stands there {times} times")


class _YamlLoader(yaml.SafeLoader):
    """Plain data, each key of a table once; merge keys (``<<``) are refused, as MONAI refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The table of a node."""
        _refuse_twice([self.construct_object(key, deep=True) for key, _ in node.value])
        return super().construct_mapping(node, deep)


def value_at(config: Any, key: str) -> Any:
    """What stands at a key such as ``train::trainer`` or ``transforms::0``; None where there is nothing."""
    place = config
    for step in split_key(key):
        if isinstance(place, Mapping):
            place = place.get(step)
        elif isinstance(place, list) and step.isdecimal() and int(step) < len(place):
            place = place[int(step)]
        else:
            return None
    return place


def split_key(key: str) -> list[str]:
    """The steps of a key through tables and lists; MONAI's older ``#`` parts them as ``::`` does.

    >>> split_key("train::trainer#max_epochs")
    ['train', 'trainer', 'max_epochs']
    """
    return key.replace("#", SEPARATOR).split(SEPARATOR)


def resolve(config: Config, value: Any, depth: int = 0) -> Any:
    """``value`` with references such as ``@patch`` (or macros, ``%patch``) to plain data replaced by what they name.

    An expression, and a reference to what is not there, stays as it is; so do references in a ring.
    """
    if isinstance(value, dict):
        return {key: resolve(config, inner, depth) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolve(config, inner, depth) for inner in value]
    if isinstance(value, str) and value.startswith(("@", "%")) and depth < DEEPEST:
        target = value_at(config, value[1:])
        return value if target is None else resolve(config, target, depth + 1)
    return value


def iterate_texts(value: Any) -> Iterator[str]:
    """Every text in a configuration, however deep."""
    return (inner for inner in walk(value) if isinstance(inner, str))


def walk(value: Any) -> Iterator[Any]:
    """A value of a configuration, and every value inside it, however deep."""
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


def _files_of(root: Path, form: str) -> dict[str, list[Path]]:
    """The files of each kind that are laid over each other, the base's first, as far as there are any."""
    suffixes = ("", f"_{form}") if form else ("",)
    paths = {kind: [find_config(root, f"{kind}{suffix}") for suffix in suffixes] for kind in CONFIG_KINDS}
    found = {kind: list(filter(Path.is_file, own)) for kind, own in paths.items()}
    return {kind: own for kind, own in found.items() if own}
