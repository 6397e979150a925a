"""What the C library is told about freed memory."""

import ctypes
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import ctypes, sys
from medseg.allocator import fit_allocator

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]) // 1024

assert fit_allocator(is_memory_limited=sys.argv[1] == "limited")
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
before = resident()
block = library.malloc(64 << 20)
ctypes.memset(ctypes.c_void_p(block), 1, 64 << 20)
library.free(block)
print(resident() - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc alone can be told"
)
@pytest.mark.parametrize(("how", "is_kept"), [("free", True), ("limited", False)])
def test_a_large_block_is_kept_unless_memory_is_limited(how, is_kept):
    words = [sys.executable, "-c", PROGRAM, how]
    kept_mib = int(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert (kept_mib > 48) == is_kept
