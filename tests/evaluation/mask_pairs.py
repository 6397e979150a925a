"""Pairs of small masks, as hypothesis draws them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

VALUES = [0, 1, 2, 3]


@st.composite
def mask_pairs(draw):
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=6))
    elements = st.integers(0, draw(st.integers(0, 3)))
    return tuple(draw(arrays(np.uint8, shape, elements=elements)) for _ in range(2))
