#!/usr/bin/env python3
"""Generate bundles/ from tools/bundle_src/*.yaml; with --check, only say what is out of step."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from medseg.bundle.build import find_drifted_files, write_bundle
from medseg.bundle.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Write or check every bundle; returns 1 where --check finds drift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is out of step")
    check = parser.parse_args(arguments).check
    licence = (ROOT / "LICENSE").read_text(encoding="utf8")
    act = find_drifted_files if check else write_bundle
    sources = sorted((ROOT / "tools" / "bundle_src").glob("*.yaml"))
    changed = [path for source in sources for path in act(read_settings(source), ROOT / "bundles", licence)]
    for path in changed:
        print(f"{'out of step' if check else 'written'}: {path.relative_to(ROOT)}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
