"""Files that would fill the memory are refused before they do."""

import subprocess
import sys

import pytest

from tests.hostile_dicom import BOMBS, GOOD, PIXEL_FAULTS

MOST_GROWTH_BYTES = 200 << 20
CLAIMS = {
    "length beyond the file",
    "more rows than pixels",
    "a hundred million frames",
    "run lengths without end",
    "JPEG-LS larger",
    "JPEG 2000 larger",
}

READ_ALL = """
import resource, sys, warnings
from medseg.data.dicom.series import take_inventory
from medseg.data.images import read
from medseg.errors import ImageError
warnings.simplefilter("ignore")

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

read(sys.argv[1])
before = most()
for folder in sys.argv[2:]:
    take_inventory(folder)
    try:
        read(folder)
    except ImageError as error:
        print(error.code)
print(most() - before)
"""


def test_bombs_are_refused_within_200_mb(tmp_path):
    pytest.importorskip("resource")
    cases = [case for case in [*BOMBS, *PIXEL_FAULTS] if case in BOMBS or case.name in CLAIMS]
    whole = tmp_path / "whole"
    next(case for case in GOOD if case.name == "deflated").build(whole)
    folders = []
    for number, case in enumerate(cases):
        if case.needs:
            pytest.importorskip(case.needs)
        case.build(tmp_path / str(number))
        folders.append(str(tmp_path / str(number)))
    command = [sys.executable, "-c", READ_ALL, str(whole), *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    *codes, growth = done.stdout.split()
    assert codes == [case.code for case in cases]
    assert int(growth) < MOST_GROWTH_BYTES
