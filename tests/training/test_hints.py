import pytest

from medseg.bundle.forms import read_config
from medseg.errors import UsageError
from medseg.networks import UNET_OPTIONS
from medseg.training.forms import check_overrides
from medseg.training.hints import NAMED_BY, OTHER_WORDS


@pytest.fixture
def config(tiny_bundle):
    return read_config(tiny_bundle / "configs" / "train.json")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("filters", "network_options::filters"),
        ("filter", "network_options::filters"),
        ("activation", "network_options::activation"),
        ("lr", "learning_rate"),
        ("batch", "batch_size"),
        ("bach_size", "batch_size"),
        ("optimiser", "optimizer_name"),
        ("network_options::activatio", "network_options::activation"),
        ("loss_options::focall", "loss_options::focal"),
        ("train::trainer::max_epoch", "max_epochs"),
    ],
)
def test_the_key_that_is_meant_is_named(config, key, meant):
    with pytest.raises(UsageError, match="SETTING_UNKNOWN") as refused:
        check_overrides(config, {key: 1})
    assert meant in refused.value.remedy


@pytest.mark.parametrize(("key", "value"), [("optimizer", "sgd"), ("loss", "dice"), ("network", "unet")])
def test_a_name_for_what_is_built_from_one_is_refused_with_the_key_that_takes_it(config, key, value):
    with pytest.raises(UsageError, match=f"SETTING_INVALID: {key}") as refused:
        check_overrides(config, {key: value})
    assert f"{NAMED_BY[key]}={value}" in refused.value.remedy


def test_a_part_of_the_training_may_still_be_given_whole(config):
    check_overrides(config, {"optimizer": {"_target_": "torch.optim.SGD"}, "network": "$@network_def"})


def test_every_hint_leads_to_a_key_that_bundles_have(config):
    assert {*NAMED_BY, *NAMED_BY.values(), *OTHER_WORDS.values()} <= set(config)
    assert not set(OTHER_WORDS) & {*config, *UNET_OPTIONS}


def test_a_key_like_no_other_lists_those_that_there_are(config):
    with pytest.raises(UsageError, match="SETTING_UNKNOWN") as refused:
        check_overrides(config, {"zzzz": 1})
    assert "learning_rate" in refused.value.remedy
