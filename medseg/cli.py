"""The command line: parsers made of the verbs' dataclasses, what is typed read into these, and how a run ends.

What a verb prints is in ``print_scan_verbs`` and ``print_bundle_verbs``.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from typing import Any

import medseg
from medseg import commands, print_bundle_verbs, print_scan_verbs
from medseg.commands import Command
from medseg.errors import MedsegError, UsageError, first_line

Verb = tuple[type[Command], Callable[[Any], int]]
"""What is typed behind a verb, and what runs it and returns the exit code."""

VERBS: Mapping[str, Verb] = {
    "predict": (commands.PredictCommand, print_scan_verbs.run_predict),
    "evaluate": (commands.EvaluateCommand, print_scan_verbs.run_evaluate),
    "train": (commands.TrainCommand, print_bundle_verbs.run_train),
    "compare": (commands.CompareCommand, print_bundle_verbs.run_compare),
    "check": (commands.CheckCommand, print_scan_verbs.run_check),
    "demo": (commands.DemoCommand, print_scan_verbs.run_demo),
}
OF_BUNDLES: Mapping[str, Verb] = {
    "verify": (commands.VerifyCommand, print_bundle_verbs.run_verify),
    "export": (commands.ExportCommand, print_bundle_verbs.run_export),
}
"""The verbs below `medseg bundle`."""

INTERRUPTED = 130

LIBRARY_LINES = {
    "monai.data.nvimgcodec_pydicom_plugin": "skipping pydicom decoder plugin registration",
    "ignite.engine.engine.SupervisedTrainer": "run is terminating due to exception",
    "ignite.engine.engine.SupervisedEvaluator": "run is terminating due to exception",
}
"""By logger: part of the line. The exceptions that ignite tells of are told by us, with a code."""

LIBRARY_WARNINGS = (
    "NvImgCodecPydicomReader: nvImageCodec decoder plugin did not register",
    "inverse has been called but no invertible transforms have been supplied",
)
"""How these begin: medseg reads DICOM itself; and a bundle whose preparation moves nothing has nothing to undo."""

DICOM_MODULES = r"pydicom(\.|$)"
"""Its warnings quote values of headers, identifiers among them; medseg checks itself what it uses of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 all went well, 1 some cases failed, 2 the command is wrong, 3 no input, 4 the model is
    refused, 5 the output cannot be written, 6 another run holds the folder, 130 interrupted.
    """
    parsed = make_parser().parse_args(arguments)
    command, run = parsed.verb
    hush_libraries()
    try:
        exit_code = run(read_command(command, vars(parsed)))
        sys.stdout.flush()
        return exit_code
    except MedsegError as error:
        print(
            f"medseg: {error.code}\n  at   {error.case}\n  what {error.problem}\n  do   {error.remedy}", file=sys.stderr
        )
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough (`medseg evaluate … | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("medseg: interrupted; what was finished is kept", file=sys.stderr)
        return INTERRUPTED


@dataclass(frozen=True)
class LineFilter:
    """Keeps one line of a logger back.

    Args:
        text: Part of the line.
    """

    text: str

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` is shown."""
        return self.text not in record.getMessage()


def hush_libraries() -> None:
    """Leave out ``LIBRARY_LINES``, ``LIBRARY_WARNINGS`` and what pydicom warns of from now on, in this process."""
    for name, text in LIBRARY_LINES.items():
        logging.getLogger(name).addFilter(LineFilter(text))
    for text in LIBRARY_WARNINGS:
        warnings.filterwarnings("ignore", message=re.escape(text))
    warnings.filterwarnings("ignore", category=UserWarning, module=DICOM_MODULES)


class VerbParser(argparse.ArgumentParser):
    """Takes no shortened option: what ``--epoch`` stands for today, another version may read as another."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does, after a look at the options.

        Without it, argparse would tell of a missing argument before it told of the misspelt option.
        """
        # A parser of parsers sees the options of all of them.
        for word in args or () if self._subparsers is None else ():
            if word == "--":
                break
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                self._refuse(name)
        return super().parse_known_args(args, namespace)

    def _refuse(self, name: str) -> None:
        known = list(self._option_string_actions)
        near = [option for option in known if option.startswith(name)] or get_close_matches(name, known, n=2)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        self.error(f"there is no option {name}{meant}")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all verbs, made of their dataclasses."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="medseg",
        description="Medical image segmentation with MONAI bundles: masks that can be trusted.",
        epilog="example: medseg predict hippocampus_mr_segmentation scans masks && medseg evaluate masks references",
    )
    parser.add_argument("--version", action="version", version=f"medseg {medseg.__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=VerbParser)
    for name, verb in VERBS.items():
        _add_verb(verbs, name, verb)
    of_bundles = verbs.add_parser("bundle", help="check and export bundles", description="Check and export bundles.")
    below = of_bundles.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, verb in OF_BUNDLES.items():
        _add_verb(below, name, verb)
    return parser


def _add_verb(verbs: Any, name: str, verb: Verb) -> None:
    command = verb[0]
    parser = verbs.add_parser(
        name,
        help=command.summary,
        description=command.summary[0].upper() + command.summary[1:] + ".",
        epilog=f"example:\n  {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for item in list_fields(command):
        words = dict(item.metadata)
        if flag := words.pop("flag"):
            words["dest"] = item.name
        # What is not typed is not there: the dataclass has the defaults.
        parser.add_argument(flag or item.name, default=argparse.SUPPRESS, **words)
    parser.set_defaults(verb=verb)


def list_fields(holder: type) -> Iterator[Field[Any]]:
    """The fields of a dataclass that can be typed, those of the options that it holds among them."""
    for item in fields(holder):
        if "group" in item.metadata:
            yield from list_fields(item.metadata["group"])
        elif item.metadata:
            yield item


def read_command(holder: Any, typed: Mapping[str, Any]) -> Any:
    """What is typed as the dataclass that holds it.

    Args:
        holder: The dataclass of a verb, or of the options in it.
        typed: Values by the names of fields, as argparse leaves them; others are passed over.

    Raises:
        UsageError: A value cannot be meant.
    """
    given: dict[str, Any] = {}
    for item in fields(holder):
        if "group" in item.metadata:
            given[item.name] = read_command(item.metadata["group"], typed)
        elif item.name in typed:
            given[item.name] = _read_value(item, typed[item.name])
    return holder(**given)


def _read_value(item: Field[Any], value: Any) -> Any:
    read = NOTATIONS.get(item.metadata.get("metavar", ""))
    if read is not None:
        return read(value)
    return tuple(value) if isinstance(value, list) else value


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """The values by key, KEY=VALUE, the value as YAML has it.

    >>> read_settings(["learning_rate=1e-3", "network_options={filters: 16}"])
    {'learning_rate': 0.001, 'network_options': {'filters': 16}}

    Raises:
        UsageError: SETTING_INVALID, no KEY=VALUE, no YAML, or a key that is given twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.1, with 1e-3 as a number and not as text."""

    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError("SETTING_INVALID", pair, "is not KEY=VALUE", "write for example learning_rate=0.001")
        if key in settings:
            raise UsageError("SETTING_INVALID", key, "is given twice", "give it once")
        try:
            settings[key] = Loader(value).get_single_data()
        except yaml.YAMLError as error:
            raise UsageError("SETTING_INVALID", pair, first_line(error), "write the value as YAML has it") from error
    return settings


def read_choices(pairs: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Several values for each key, KEY=VALUE,VALUE.

    >>> read_choices(["network_options::filters=16,64", "optimizer_name=sgd,adam"])
    {'network_options::filters': (16, 64), 'optimizer_name': ('sgd', 'adam')}

    Raises:
        UsageError: SETTING_INVALID, no KEY=VALUE,VALUE, no YAML, or a key that is given twice or without a value.
    """
    lists = [f"{key}{equals}[{values}]" if equals else key for key, equals, values in (p.partition("=") for p in pairs)]
    choices = {key: tuple(values) for key, values in read_settings(lists).items()}
    for key in (key for key, values in choices.items() if not values):
        raise UsageError("SETTING_INVALID", key, "has no value to choose", "write for example seed=1,2")
    return choices


def read_size(text: str) -> int:
    """A number of bytes, with K, M, G or T for powers of 1024.

    >>> read_size("4G"), read_size("1.5 KB"), read_size("100")
    (4294967296, 1536, 100)

    Raises:
        UsageError: SETTING_INVALID.
    """
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if size < 1:
        raise UsageError("SETTING_INVALID", text, "is no size above 0", "write for example 4G or 800M")
    return size


def read_renamed(pairs: Sequence[str]) -> dict[int, int]:
    """Values of references and what they are read as, VALUE=CLASS.

    >>> read_renamed(["4=3", "2=1"])
    {4: 3, 2: 1}

    Raises:
        UsageError: SETTING_INVALID, no VALUE=CLASS, or a value that is named twice.
    """
    renamed: dict[int, int] = {}
    for pair in pairs:
        numbers = re.fullmatch(r"(\d+)=(\d+)", pair, re.ASCII)
        if numbers is None or int(numbers[1]) in renamed:
            problem = "is not VALUE=CLASS" if numbers is None else "names a value for the second time"
            raise UsageError("SETTING_INVALID", f"--map {pair}", problem, "write for example --map 4=3")
        renamed[int(numbers[1])] = int(numbers[2])
    return renamed


def read_names(text: str) -> tuple[str, ...]:
    """Names with commas between them.

    >>> read_names("unet, res-unet,")
    ('unet', 'res-unet')
    """
    return tuple(name.strip() for name in text.split(",") if name.strip())


NOTATIONS: Mapping[str, Callable[[Any], Any]] = {
    "KEY=VALUE": read_settings,
    "KEY=V1,V2": read_choices,
    "VALUE=CLASS": read_renamed,
    "NAME,…": read_names,
    "SIZE": read_size,
}
"""How a value is read that is more than a word or a number, by its metavar."""
