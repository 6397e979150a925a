"""The chest's shapes: levels that are negative inside, and turns that keep lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.demonstration.anatomy import Ellipsoid, Waves, draw_anatomy, rotation

POINTS = np.stack(np.meshgrid(*[np.linspace(-90, 90, 13, dtype=np.float32)] * 3, indexing="ij"))


@given(st.tuples(*[st.floats(-5, 5)] * 3).filter(lambda axis: np.linalg.norm(axis) > 1e-3), st.floats(-180, 180))
def test_a_rotation_keeps_its_axis_and_all_lengths(axis, degrees):
    axis = np.array(axis) / np.linalg.norm(axis)
    matrix = rotation(axis, degrees)
    np.testing.assert_allclose(matrix @ axis, axis, atol=1e-9)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_a_quarter_turn_about_z_takes_x_to_y():
    np.testing.assert_allclose(rotation(np.array([0, 0, 2]), 90) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_an_ellipsoid_is_negative_inside_zero_on_its_surface_and_grows_by_its_margin():
    half_axes = np.array([10, 20, 30], np.float32)
    ellipsoid = Ellipsoid(np.array([1, 2, 3], np.float32), half_axes, np.eye(3, dtype=np.float32))
    centre, surface = np.array([[1], [2], [3.0]], np.float32), np.array([[1], [22], [3.0]], np.float32)
    assert ellipsoid.level_mm(centre) == pytest.approx(-10)
    assert ellipsoid.level_mm(surface) == pytest.approx(0, abs=1e-5)
    assert ellipsoid.level_mm(surface, margin_mm=2.0) < 0 < ellipsoid.level_mm(surface, margin_mm=-2.0)


def test_a_field_without_amplitude_is_zero_everywhere():
    waves = Waves(np.ones((4, 3), np.float32), np.zeros(4, np.float32), np.zeros((2, 4), np.float32))
    assert waves.field(POINTS).shape == (2, *POINTS.shape[1:])
    assert not waves.field(POINTS).any()


@pytest.mark.parametrize("seed", [0, 7])
def test_every_organ_is_somewhere_and_lesions_lie_in_the_lungs(seed):
    anatomy = draw_anatomy(np.random.default_rng([seed, 0]))
    painted = {layer.label for layer in anatomy.layers(POINTS) if layer.label and (layer.level_mm < 0).any()}
    assert painted >= {1, 2, 3, 4, 5}
    for lesion in anatomy.lesions:
        assert anatomy.lung_level_mm(lesion.center_mm[:, None]) < 0
