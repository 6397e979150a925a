"""Each array operation means the same in either library; plain NumPy is the oracle."""

import numpy as np
import pytest
import torch

from medseg.inference.arrays import NumpyArrays, arrays_of, narrow
from medseg.inference.torch_arrays import TorchArrays

MAKE = {"numpy": lambda array: np.array(array), "torch": lambda array: torch.from_numpy(np.array(array))}


@pytest.fixture(params=MAKE)
def make(request):
    return MAKE[request.param]


def noise(*size):
    return np.random.default_rng(sum(size)).normal(size=size).astype(np.float32)


def test_an_array_says_which_library_it_is_of_and_anything_else_is_refused():
    assert type(arrays_of(np.zeros(1))) is NumpyArrays
    assert type(arrays_of(torch.zeros(1))) is TorchArrays
    assert type(arrays_of(torch.nn.Parameter(torch.zeros(1)))) is TorchArrays
    with pytest.raises(TypeError, match="list"):
        arrays_of([0.0])


def test_torch_overrides_every_operation():
    assert {name for name in vars(NumpyArrays) if name[0] != "_"} == {
        name for name in vars(TorchArrays) if name[0] != "_"
    }


def test_a_shared_view_writes_to_the_array(make):
    array = np.zeros(3, np.float32)
    arrays_of(make(array)).share(array)[1] = 5
    assert array.tolist() == [0, 5, 0]


def test_arrays_are_made_where_another_lies_and_read_back(make):
    beside = make(noise(2, 3))
    arrays = arrays_of(beside)
    assert np.array_equal(arrays.to_numpy(arrays.place(noise(4), beside)), noise(4))
    assert arrays.convert(np.eye(2), beside).dtype == beside.dtype
    assert not arrays.zeros((2, 2), arrays.single, beside).any()
    assert tuple(arrays.empty_like(beside, (5, 1)).shape) == (5, 1)
    assert arrays.is_in_ram(beside)
    assert arrays.to_ram(beside) is not None
    assert np.array_equal(
        arrays.to_numpy(arrays.view(bytearray(noise(6).tobytes()), (2, 3), arrays.single)).ravel(), noise(6)
    )


def test_a_copy_is_another_array(make):
    array = make(noise(3))
    copy = arrays_of(array).copy(array)
    copy[...] = 0
    assert np.array_equal(np.asarray(array), noise(3))


def test_parts_are_joined_stacked_and_narrowed(make):
    parts = [make(noise(2, 3)), make(noise(2, 3))]
    arrays = arrays_of(parts[0])
    assert tuple(arrays.join(parts, 1).shape) == (2, 6)
    assert tuple(arrays.stack(parts).shape) == (2, 2, 3)
    assert np.array_equal(narrow(arrays.join(parts, 1), 1, 2, 4), np.concatenate([noise(2, 3)] * 2, 1)[:, 2:4])


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding_is_the_same(make, mode):
    image, names = noise(2, 4, 5), {"replicate": "edge", "circular": "wrap"}
    options = {"constant_values": 2.5} if mode == "constant" else {}
    wanted = np.pad(image, [(0, 0), (1, 2), (0, 1)], mode=names.get(mode, mode), **options)
    given = make(image)
    assert np.array_equal(arrays_of(given).pad(given, [(1, 2), (0, 1)], mode, 2.5), wanted)


def test_weighted_sums_are_added_and_divided_in_place(make):
    sums, scores, weights = make(noise(2, 3, 3)), make(noise(2, 3, 3) + 1), make(noise(3, 3))
    arrays = arrays_of(sums)
    arrays.add_weighted(sums, scores, weights)
    wanted = noise(2, 3, 3) + (noise(2, 3, 3) + 1) * noise(3, 3)
    np.testing.assert_allclose(np.asarray(sums), wanted, rtol=1e-6)
    means = arrays.divide(sums, make(np.full((1, 3, 3), 2, np.float32)))
    np.testing.assert_allclose(np.asarray(means), wanted / 2, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(sums), wanted / 2, rtol=1e-6)


@pytest.mark.parametrize(("value", "is_finite"), [(1.0, True), (np.nan, False), (np.inf, False), (-np.inf, False)])
def test_a_single_value_that_is_no_number_is_found(make, value, is_finite):
    values = noise(3, 4)
    values[1, 2] = value
    assert arrays_of(make(values)).is_finite(make(values)) == is_finite
    assert arrays_of(make(values)).is_finite(make(values[:0]))


def test_labels_are_marked_where_a_score_is_higher_and_the_first_wins_a_tie(make):
    labels, best, score = make(np.zeros(3, np.uint8)), make(np.float32([1, 2, 3])), make(np.float32([2, 2, 1]))
    higher = arrays_of(best).mark_higher(labels, 4, score, best)
    assert np.asarray(labels).tolist() == [4, 0, 0]
    assert np.asarray(higher).tolist() == [2, 2, 3]


def test_probabilities_are_those_of_the_formula(make):
    logits = 30 * noise(4, 5)
    given = make(logits)
    wanted = np.exp(logits - logits.max(0)) / np.exp(logits - logits.max(0)).sum(0)
    found = np.stack([np.asarray(each) for each in arrays_of(given).softmax(given)])
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(np.asarray(arrays_of(given).sigmoid(given)), 1 / (1 + np.exp(-logits)), atol=1e-6)
