"""`medseg bundle verify`: verify, print."""

from __future__ import annotations

import argparse

from medseg.errors import BundleError, MedsegError

SUMMARY = "check that bundles are what they say, without running their code"
EXAMPLE = "medseg bundle verify hippocampus_mr_segmentation my_bundle"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments of `medseg bundle verify`."""
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="a bundle's folder, or the name of one shipped")
    parser.set_defaults(run=run_verify)


def run_verify(parsed: argparse.Namespace) -> int:
    """Verify each bundle, print what was found; returns the exit code."""
    from medseg.bundle.verify import verify
    from medseg.errors import as_finding

    exit_code = 0
    for bundle in parsed.bundles:
        try:
            found = verify(bundle)
        except MedsegError as error:
            found = [as_finding(error)]
        errors = [finding for finding in found if not finding.is_note]
        exit_code = BundleError.exit_code if errors else exit_code
        print(f"{bundle}: {f'{len(errors)} errors' if errors else 'sound'}")
        for finding in errors if parsed.quiet else found:
            head = f"note: {finding.code}" if finding.is_note else finding.code
            print(f"  {head}\n    at   {finding.place}\n    what {finding.problem}\n    do   {finding.remedy}")
    return exit_code
