"""JPEG streams that nothing installed writes.

Lossy of 12 bits, lossless by any of the seven predictors (T.81), and blank ones of high throughput (T.814).
"""

import numpy as np
from scipy.fft import dctn

DC_SYMBOLS = list(range(17))
AC_SYMBOLS = [0x00, 0xF0, *(run << 4 | size for run in range(16) for size in range(1, 15))]
DC_BITS, AC_BITS = 5, 8
"""Every code is as long as the others, which the format allows; the longest row of ones stays unused."""

ZIGZAG = sorted(
    ((row, column) for row in range(8) for column in range(8)),
    key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]),
)
PREDICTORS = {
    1: lambda left, above, corner: left,
    2: lambda left, above, corner: above,
    3: lambda left, above, corner: corner,
    4: lambda left, above, corner: left + above - corner,
    5: lambda left, above, corner: left + (above - corner >> 1),
    6: lambda left, above, corner: above + (left - corner >> 1),
    7: lambda left, above, corner: left + above >> 1,
}


def twelve_bit_jpeg(plane, quantum=1):
    """Values of 0 to 4095, (row, column), as extended sequential JPEG; rows and columns are multiples of 8."""
    rows, columns = plane.shape
    bits, last = [], 0
    for row in range(0, rows, 8):
        for column in range(0, columns, 8):
            block = dctn(plane[row : row + 8, column : column + 8].astype(float) - 2048, norm="ortho")
            levels = [int(np.rint(block[at] / quantum)) for at in ZIGZAG]
            bits.append(_coded(0, levels[0] - last, DC_SYMBOLS, DC_BITS))
            bits.append(_alternating(levels[1:]))
            last = levels[0]
    tables = _segment(0xDB, bytes([0, *[quantum] * 64])) + _huffman(0x00, DC_SYMBOLS[:16], DC_BITS)
    tables += _huffman(0x10, AC_SYMBOLS, AC_BITS)
    return _stream(0xC1, 12, plane.shape, tables, bytes([0, 63, 0]), bits)


def lossless_jpeg(plane, predictor=1, precision=16):
    """Unsigned values, (row, column), as lossless JPEG (process 14)."""
    values, bits = plane.astype(int), []
    for (row, column), value in np.ndenumerate(values):
        if row == column == 0:
            guess = 1 << precision - 1
        elif row == 0 or column == 0:
            guess = values[row, column - 1] if row == 0 else values[row - 1, column]
        else:
            left, above, corner = values[row, column - 1], values[row - 1, column], values[row - 1, column - 1]
            guess = PREDICTORS[predictor](left, above, corner)
        off = int(value - guess + 32767) % 65536 - 32767
        bits.append(_coded(0, off, DC_SYMBOLS, DC_BITS))
    return _stream(0xC3, precision, plane.shape, _huffman(0x00, DC_SYMBOLS, DC_BITS), bytes([predictor, 0, 0]), bits)


def blank_high_throughput(blank):
    """A JPEG 2000 stream of a blank picture, which holds no coded block, restated as one of high throughput."""
    stream = bytearray(blank)
    end_of_size = 4 + int.from_bytes(stream[4:6], "big")
    assert stream[2:4] == b"\xff\x51"
    stream[6] |= 0x40  # Capabilities are told further down.
    style = stream.index(b"\xff\x52") + 12
    assert stream[style] == 0
    stream[style] |= 0x40
    return bytes(stream[:end_of_size]) + _segment(0x50, bytes([0, 2, 0, 0, 0, 0])) + bytes(stream[end_of_size:])


def _alternating(levels):
    """The other 63 levels of a block: zeros before each, and its size; an end where only zeros follow."""
    bits, zeros = [], 0
    for level in levels:
        if level == 0:
            zeros += 1
            continue
        bits += [f"{AC_SYMBOLS.index(0xF0):0{AC_BITS}b}"] * (zeros // 16)
        bits.append(_coded(zeros % 16, level, AC_SYMBOLS, AC_BITS))
        zeros = 0
    return "".join(bits) + (f"{AC_SYMBOLS.index(0):0{AC_BITS}b}" if zeros else "")


def _coded(run, level, symbols, length):
    size = abs(level).bit_length()
    code = f"{symbols.index(run << 4 | size):0{length}b}"
    if size in (0, 16):  # The level of size 16 is always the same one.
        return code
    return code + f"{level if level > 0 else level + (1 << size) - 1:0{size}b}"


def _huffman(kind, symbols, length):
    counts = [len(symbols) if bits == length else 0 for bits in range(1, 17)]
    return _segment(0xC4, bytes([kind, *counts, *symbols]))


def _segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def _stream(kind, precision, shape, tables, ending, bits):
    size = b"".join(length.to_bytes(2, "big") for length in shape)
    frame = _segment(kind, bytes([precision]) + size + bytes([1, 1, 0x11, 0]))
    scan = _segment(0xDA, bytes([1, 1, 0x00]) + ending)
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + tables + frame + scan + data + b"\xff\xd9"
