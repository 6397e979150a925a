import json
import math
from pathlib import Path

import pytest

from medseg.errors import DatasetError, InputError
from medseg.evaluation.compare.comparison_files import write_comparison
from medseg.evaluation.compare.gather import gather
from medseg.evaluation.compare.published import read_published, set_beside
from tests.evaluation.run_folders import make_run, mask

ROOT = Path(__file__).resolve().parents[3]
TRUE = {"a": mask(1, 1, 2, 2), "b": mask(1, 1, 1, 1, 2, 2)}


def table(tmp_path, *lines):
    path = tmp_path / "paper.csv"
    path.write_text("\n".join(["# A paper, table 1.", "row,class,metric,value", *lines]) + "\n")
    return read_published(path)


def beside(tmp_path, rows, *lines):
    return set_beside(table(tmp_path, *lines).numbers, rows)


@pytest.fixture
def rows(tmp_path):
    make_run(tmp_path / "runs" / "unet_focal", TRUE, TRUE, loss="focal")
    make_run(tmp_path / "runs" / "vnet", TRUE, TRUE, network="vnet", **{"network_options::filters": 64})
    return gather([tmp_path / "runs"]).rows


def test_a_number_stands_beside_the_row_that_it_fits(tmp_path, rows):
    (found,) = beside(tmp_path, rows, "unet_focal,1,dice,0.9")
    assert (found.row, found.class_name, found.mean, found.pooled) == ("unet_focal", "ball", 1.0, 1.0)


def test_a_row_is_found_by_any_of_its_parts_and_remarks_do_not_count(tmp_path, rows):
    lines = ["focal,ball,iou,0.8", "filters-64 (experiment 1),Foreground Mean,dice,0.7", "vnet,,epochs,86"]
    found = beside(tmp_path, rows, *lines)
    assert [(each.row, each.class_name, each.mean) for each in found] == [
        ("unet_focal", "ball", 1.0),
        ("vnet", "foreground mean", 1.0),
        ("vnet", "", 3.0),
    ]


def test_a_loss_stands_beside_the_validation_loss(tmp_path, rows):
    (found,) = beside(tmp_path, rows, "unet,,loss,0.02")
    assert found.mean == 0.4
    assert math.isnan(found.pooled)


def test_a_number_that_fits_no_row_or_class_stands_alone(tmp_path, rows):
    found = beside(tmp_path, rows, "unet_filters-64,1,dice,0.9", "unet,tail,dice,0.9")
    assert [each.row for each in found] == ["", "unet_focal"]
    assert all(math.isnan(each.mean) for each in found)


def printed(comparison):
    """The lines of the table of published numbers."""
    lines = comparison.to_text().splitlines()
    return lines[next(index for index, line in enumerate(lines) if line.startswith("Beside")) :]


def test_the_difference_is_printed_below_both_names(tmp_path, rows):
    lines = ["unet_focal (table 1),1,dice,0.9", "unet_focal (table 2),1,dice,0.8", "vnet,,epochs,86"]
    shown = printed(gather([tmp_path / "runs"], published=table(tmp_path, *lines)))
    headings = [line for line in shown if "→" in line and "published row" not in line]
    assert headings == ["unet_focal (table 1) → unet_focal", "unet_focal (table 2) → unet_focal", "vnet → vnet"]
    below = shown[shown.index(headings[1]) + 1].split()
    assert below[:5] == ["ball", "dice", "0.8000", "1.0000", "+0.2000"]
    assert not any(line.startswith("–") for line in shown)


def test_what_has_no_match_on_either_side_is_marked_and_explained(tmp_path, rows):
    comparison = gather([tmp_path / "runs"], published=table(tmp_path, "unet_filters-64 (of theirs),1,dice,0.9"))
    assert comparison.alone == ("unet_focal", "vnet")
    shown = printed(comparison)
    assert "unet_filters-64 (of theirs) → –" in shown
    assert {"– → unet_focal", "– → vnet"} <= set(shown)
    assert any(line.startswith("–:") for line in shown)
    assert gather([tmp_path / "runs"]).alone == ()


def test_comments_are_remarks_below_the_table_and_on_the_page(tmp_path, rows):
    lines = ["unet,,epochs,86", "# Its IoU is of", "# probabilities <0.5.", "#", "#Another."]
    found = table(tmp_path, *lines)
    assert found.remarks == ("A paper, table 1.", "Its IoU is of probabilities <0.5.", "Another.")
    comparison = gather([tmp_path / "runs"], published=found)
    assert printed(comparison)[-3:] == list(found.remarks)
    write_comparison(comparison, tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "probabilities &lt;0.5." in page and "A paper, table 1." in page
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["published_remarks"] == list(found.remarks)


def test_published_rows_stay_within_a_hundred_columns(tmp_path, rows):
    names = [f"{'unet_focal' * times} ({'remark ' * times})" for times in (1, 8)]
    comparison = gather([tmp_path / "runs"], published=table(tmp_path, *(f"{name},1,dice,0.9" for name in names)))
    assert max(map(len, comparison.to_text().splitlines())) <= 100


def test_an_empty_table_is_read_as_nothing(tmp_path):
    assert table(tmp_path).numbers == ()


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
    found = read_published(path)
    numbers = found.numbers
    assert numbers
    assert "section" in found.remarks[0]
    assert all(0 < each.value <= 1 for each in numbers if each.class_name)
    # Of one class, both are functions of the same counts: IoU = Dice / (2 - Dice).
    score = {(each.row, each.class_name, each.metric): each.value for each in numbers}
    pairs = [(value, score.get((row, name, "iou"))) for (row, name, metric), value in score.items() if metric == "dice"]
    assert all(abs(dice / (2 - dice) - iou) < 0.02 for dice, iou in pairs if iou and path.stem in ("lgg_mr", "acdc_mr"))
