"""Bundles by their names: a folder's, or that of one which medseg ships."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import medseg
from medseg.errors import BundleError

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
