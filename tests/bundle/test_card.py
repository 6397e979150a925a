from dataclasses import replace

from medseg.bundle.card import card, metadata


def test_the_card_names_structures_licence_and_commands(tiny_settings):
    text = card(tiny_settings)
    assert "| 1 | ball |" in text
    assert "medseg predict ball_segmentation SCANS MASKS" in text
    assert "Not trained yet." in text
    assert "None" not in text


def test_the_card_of_a_trained_bundle_has_its_scores_and_its_training(tiny_settings):
    trained = {"hardware": "two CPU cores", "test_dice": {"ball": 0.91}}
    text = card(replace(tiny_settings, trained=trained))
    assert "| ball | 0.91 |" in text
    assert "- Hardware: two CPU cores" in text
    assert metadata(replace(tiny_settings, trained=trained))["eval_metrics"] == {"ball": 0.91}


def test_the_metadata_describe_input_and_output(tiny_settings):
    formats = metadata(tiny_settings)["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == ["8*n", "8*n", "8*n"]
    assert formats["inputs"]["image"]["channel_def"] == {"0": "T1"}
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "ball"}
