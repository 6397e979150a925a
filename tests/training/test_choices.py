import pytest

from medseg.bundle.forms import read_config
from medseg.errors import UsageError
from medseg.training.choices import check_choices, notes_on_changes
from medseg.training.forms import with_overrides


@pytest.fixture
def config(tiny_bundle):
    return read_config(tiny_bundle / "configs" / "train.json")


def test_what_a_bundle_says_itself_can_be_built(config):
    check_choices(config)
    check_choices({})


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("network_name", "unnet", "NETWORK_UNKNOWN"),
        ("network_options", {"filter": 4}, "NETWORK_OPTION_UNKNOWN"),
        ("network_options", {"filters": "many"}, "NETWORK_OPTION_INVALID"),
        ("network_options::activation", ["elu"], "NETWORK_OPTION_INVALID"),
        ("loss_name", "dise", "LOSS_UNKNOWN"),
        ("loss_options", {"dise": {}}, "LOSS_UNKNOWN"),
        ("loss_options", {"focal": {"gama": 1}}, "LOSS_OPTION_UNKNOWN"),
        ("loss_options", {"focal": 2}, "SETTING_INVALID"),
        ("loss_options", {"dice-ce": {"dice_weight": "much"}}, "LOSS_OPTION_INVALID"),
        ("optimizer_name", "sdg", "OPTIMIZER_UNKNOWN"),
        ("schedule_name", "pol", "SCHEDULE_UNKNOWN"),
        ("select_by", "dice", "SETTING_INVALID: select_by"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_own_code(config, key, value, code):
    with pytest.raises(UsageError, match=code):
        check_choices(with_overrides(config, {"loss_name": "dice-ce", key: value}))


@pytest.mark.parametrize("select_by", ["val_loss", "val_mean_dice", "val_mean_iou"])
def test_weights_may_be_selected_by_whatever_is_measured(config, select_by):
    check_choices({**config, "select_by": select_by})


@pytest.mark.parametrize(
    "changes",
    [
        {"network_name": "SegResNet"},
        {"network_def": {"_target_": "monai.networks.nets.UNet", "name": "mine"}},
        {"loss": {"_target_": "torch.nn.CrossEntropyLoss"}},
        {"loss_name": "$'di' + 'ce'"},
        {"network_options": {"filters": "$2 * 4"}},
    ],
)
def test_what_is_computed_or_not_ours_is_left_to_the_training(config, changes):
    check_choices({**config, **changes})


def codes(config, overrides):
    return [note.code for note in notes_on_changes(config, overrides)]


def test_another_optimizer_with_the_learning_rate_of_the_first_is_noted(config):
    (note,) = notes_on_changes(config, {"optimizer_name": "sgd"})
    assert note.code == "LEARNING_RATE_KEPT"
    assert all(word in note.text for word in ("0.01", config["optimizer_name"], "sgd", "learning_rate="))


def test_nothing_is_noted_where_the_learning_rate_was_thought_of(config):
    assert codes(config, {"optimizer_name": "sgd", "learning_rate": 0.01}) == []
    assert codes(config, {"optimizer_name": config["optimizer_name"]}) == []
    assert codes(config, {"learning_rate": 1.0}) == []
    assert codes({}, {"optimizer_name": "sgd"}) == []
