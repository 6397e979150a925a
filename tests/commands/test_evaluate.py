import json

from medseg.cli import main
from medseg.data.splits import Split, write_split
from tests.conftest import ball, save_nifti


def scored(tmp_path, bundle, capsys):
    for case in ("a", "b"):
        for folder in ("masks", "references"):
            save_nifti(ball(1)[1], tmp_path / folder / f"{case}.nii.gz")
    words = [tmp_path / "masks", tmp_path / "references", "--held-out", bundle, "--output", tmp_path / "scores"]
    assert main(["evaluate", *map(str, words), "--quiet"]) == 0
    capsys.readouterr()
    rows = json.loads((tmp_path / "scores" / "evaluation.json").read_text())["cases"]
    return {row["case"]: row["part"] for row in rows}


def split(train, test):
    return Split((train,), (), (test,), 1, "by hand")


def test_the_held_out_cases_of_a_bundle_are_those_of_its_own_split(tmp_path, tiny_bundle, capsys):
    write_split(split("a", "b"), tiny_bundle / "configs" / "split.json")
    write_split(split("b", "a"), tiny_bundle / "configs" / "split_small.json")
    assert scored(tmp_path, tiny_bundle, capsys) == {"a": "train", "b": "test"}


def test_without_one_they_are_those_of_the_form_whose_weights_are_shipped(tmp_path, tiny_bundle, capsys):
    write_split(split("b", "a"), tiny_bundle / "configs" / "split_small.json")
    assert scored(tmp_path, tiny_bundle, capsys) == {"a": "test", "b": "train"}
