"""`medseg demo`, as a newcomer runs it first."""

import csv
import html.parser
import re
import statistics

from medseg.data.read import read, read_mask
from medseg.geometry import is_same_grid
from tests.end_to_end.conftest import run_quietly

SCANS = {"straight": "straight.nii.gz", "oblique": "oblique.nii.gz", "dicom_series": "dicom_series"}
NOT_ORGANS = {"background", "lesion"}


class Links(html.parser.HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]


def fetched_by(page):
    """Everything that a page refers to outside itself."""
    links = Links()
    links.feed(page)
    named = [*links.found, *re.findall(r"url\(['\"]?([^)'\"]+)", page), *re.findall(r"@import\s+(\S+)", page)]
    return [link for link in named if not link.startswith(("data:", "#"))]


def test_a_page_that_fetches_something_is_noticed():
    page = '<style>b {background: url(b.png)}</style><img src="data:x"><a href="#top"></a><link href="//c.css">'
    assert fetched_by(page) == ["//c.css", "b.png"]


def test_the_demo_makes_three_good_masks_and_a_page(elsewhere):
    said = run_quietly(["-m", "medseg", "demo", "--output", "shown"], elsewhere)
    shown = elsewhere / "shown"
    page = (shown / "report.html").read_text(encoding="utf8")
    assert str((shown / "report.html").resolve()) in said
    assert fetched_by(page) == []
    assert page.count("data:image/") >= len(SCANS)
    for case, scan in SCANS.items():
        mask = read_mask(shown / "masks" / f"{case}.nii.gz")
        assert is_same_grid(mask.grid, read(shown / "scans" / scan).grid)
    with (shown / "scores" / "cases.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["class"] not in NOT_ORGANS]
    assert {row["case"] for row in rows} == set(SCANS)
    assert statistics.mean(float(row["dice"]) for row in rows) >= 0.9
