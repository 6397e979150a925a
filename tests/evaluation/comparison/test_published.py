import math
from pathlib import Path

import pytest

from medseg.errors import DatasetError, InputError
from medseg.evaluation.comparison.gather import gather
from medseg.evaluation.comparison.published import read_published, set_beside
from tests.evaluation.run_folders import make_run, mask

ROOT = Path(__file__).resolve().parents[2]
TRUE = {"a": mask(1, 1, 2, 2), "b": mask(1, 1, 1, 1, 2, 2)}


def table(tmp_path, *lines):
    path = tmp_path / "paper.csv"
    path.write_text("\n".join(["# A paper, table 1.", "row,class,metric,value", *lines]) + "\n")
    return read_published(path)


@pytest.fixture
def rows(tmp_path):
    make_run(tmp_path / "runs" / "unet_focal", TRUE, TRUE, loss="focal")
    make_run(tmp_path / "runs" / "vnet", TRUE, TRUE, network="vnet", **{"network_options::filters": 64})
    return gather([tmp_path / "runs"]).rows


def test_a_number_stands_beside_the_row_that_it_fits(tmp_path, rows):
    (beside,) = set_beside(table(tmp_path, "unet_focal,1,dice,0.9"), rows)
    assert (beside.row, beside.class_name, beside.mean, beside.pooled) == ("unet_focal", "ball", 1.0, 1.0)


def test_a_row_is_found_by_any_of_its_parts_and_remarks_do_not_count(tmp_path, rows):
    lines = ["focal,ball,iou,0.8", "filters-64 (experiment 1),Foreground Mean,dice,0.7", "vnet,,epochs,86"]
    found = set_beside(table(tmp_path, *lines), rows)
    assert [(each.row, each.class_name, each.mean) for each in found] == [
        ("unet_focal", "ball", 1.0),
        ("vnet", "foreground mean", 1.0),
        ("vnet", "", 3.0),
    ]


def test_a_loss_stands_beside_the_validation_loss(tmp_path, rows):
    (beside,) = set_beside(table(tmp_path, "unet,,loss,0.02"), rows)
    assert beside.mean == 0.4
    assert math.isnan(beside.pooled)


def test_a_number_that_fits_no_row_or_class_stands_alone(tmp_path, rows):
    found = set_beside(table(tmp_path, "unet_filters-64,1,dice,0.9", "unet,tail,dice,0.9"), rows)
    assert [each.row for each in found] == ["", "unet_focal"]
    assert all(math.isnan(each.mean) for each in found)


def test_the_difference_is_printed(tmp_path, rows):
    comparison = gather([tmp_path / "runs"], published=table(tmp_path, "unet_focal,1,dice,0.9"))
    (line,) = (
        line for line in comparison.to_text().splitlines() if line.startswith("unet_focal") and "+0.1000" in line
    )
    assert "0.9000" in line


def test_an_empty_table_is_read_as_nothing(tmp_path):
    assert table(tmp_path) == ()


@pytest.mark.parametrize("line", ["unet,1,dise,0.9", "unet,1,dice,high", "unet,1,dice"])
def test_a_line_that_cannot_be_meant_is_refused(tmp_path, line):
    with pytest.raises(DatasetError, match="PUBLISHED_INVALID"):
        table(tmp_path, line)


def test_other_columns_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "other.csv").write_text("model,dice\nunet,0.9\n")
    with pytest.raises(DatasetError, match="PUBLISHED_INVALID"):
        read_published(tmp_path / "other.csv")
    with pytest.raises(InputError, match="INPUT_MISSING"):
        read_published(tmp_path / "nothing.csv")


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "published").glob("*.csv")), ids=lambda path: path.stem)
def test_every_shipped_table_names_its_source_and_holds_shares(path):
    numbers = read_published(path)
    assert numbers
    assert path.read_text(encoding="utf8").startswith("# ")
    assert "section" in path.read_text(encoding="utf8")
    assert all(0 < each.value <= 1 for each in numbers if each.class_name)
    # Of one class, both are functions of the same counts: IoU = Dice / (2 - Dice).
    score = {(each.row, each.class_name, each.metric): each.value for each in numbers}
    pairs = [(value, score.get((row, name, "iou"))) for (row, name, metric), value in score.items() if metric == "dice"]
    assert all(abs(dice / (2 - dice) - iou) < 0.02 for dice, iou in pairs if iou and path.stem in ("lgg_mr", "acdc_mr"))
