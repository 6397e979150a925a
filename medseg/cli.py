"""The command line: which verbs there are, and what happens when one ends. Each verb is in `commands`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import medseg
from medseg.commands import bundle, check, compare, demo, evaluate, export, predict, train
from medseg.commands.foreign import hush_libraries
from medseg.commands.parser import VerbParser
from medseg.errors import MedsegError

VERBS = {"predict": predict, "evaluate": evaluate, "train": train, "compare": compare, "check": check, "demo": demo}
OF_BUNDLES = {"verify": bundle, "export": export}
"""The verbs below `medseg bundle`."""

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 all went well, 1 some cases failed, 2 the command is wrong, 3 no input, 4 the model is
    refused, 5 the output cannot be written, 6 another run holds the folder, 130 interrupted.
    """
    parsed = _parser().parse_args(arguments)
    hush_libraries()
    try:
        exit_code = parsed.run(parsed)
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


def _parser() -> argparse.ArgumentParser:
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


def _add_verb(verbs: Any, name: str, verb: ModuleType) -> None:
    parser = verbs.add_parser(
        name,
        help=verb.SUMMARY,
        description=verb.SUMMARY[0].upper() + verb.SUMMARY[1:] + ".",
        epilog=f"example:\n  {verb.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    verb.add_options(parser)
