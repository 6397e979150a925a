import json

import pytest

from medseg.data.cases import Case, Dataset, Labels, open_dataset, write_dataset
from medseg.errors import DatasetError, OutputError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"0")
    return root


def describe(root, content):
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def decathlon(root, pairs, **more):
    return describe(root, {"training": [{"image": i, "label": m} for i, m in pairs], **more})


def refused(code, path, opened=open_dataset):
    with pytest.raises(DatasetError) as caught:
        opened(path)
    assert caught.value.code == code
    return caught.value


def test_a_decathlon_description_gives_cases_channels_and_labels(tmp_path):
    touch(tmp_path, "imagesTr/b.nii.gz", "labelsTr/b.nii.gz", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    pairs = [(f"./imagesTr/{n}.nii.gz", f"./labelsTr/{n}.nii.gz") for n in "ba"]
    dataset = open_dataset(decathlon(tmp_path, pairs, modality={"0": "MRI"}, labels={"0": "background", "1": "A"}))
    first = Case("a", (str(tmp_path / "imagesTr/a.nii.gz"),), str(tmp_path / "labelsTr/a.nii.gz"), "a")
    assert dataset.cases[0] == first
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert dataset.channels == ("MRI",)
    assert dataset.labels == Labels({0: "background", 1: "A"})
    assert dataset.layout == "decathlon"
    assert open_dataset(tmp_path / "dataset.json") == dataset


def test_a_decathlon_case_may_have_a_file_for_each_channel(tmp_path):
    touch(tmp_path, "a_t1.nii", "a_t2.nii", "a.nii")
    case = open_dataset(decathlon(tmp_path, [(["a_t1.nii", "a_t2.nii"], "a.nii")])).cases[0]
    assert [image.rsplit("/", 1)[1] for image in case.images] == ["a_t1.nii", "a_t2.nii"]


def test_the_old_nnunet_form_finds_its_numbered_channels(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    case = open_dataset(decathlon(tmp_path, [("./imagesTr/a.nii.gz", "./labelsTr/a.nii.gz")])).cases[0]
    assert case.id == "a"
    assert [image[-6:] for image in case.images] == ["nii.gz"] * 2


def test_an_nnunet_description_gives_channels_labels_and_the_ignored_value(tmp_path):
    touch(tmp_path, *(f"imagesTr/{n}_000{c}.nrrd" for n in "xy" for c in (0, 1)), "labelsTr/x.nrrd", "labelsTr/y.nrrd")
    content = {"channel_names": {"1": "PET", "0": "CT"}, "file_ending": ".nrrd", "numTraining": 2}
    dataset = open_dataset(describe(tmp_path, {**content, "labels": {"background": 0, "lung": 1, "ignore": 2}}))
    assert [case.id for case in dataset.cases] == ["x", "y"]
    assert dataset.cases[1].images == tuple(str(tmp_path / f"imagesTr/y_000{c}.nrrd") for c in (0, 1))
    assert dataset.channels == ("CT", "PET")
    assert dataset.labels.names == {0: "background", 1: "lung", 2: "ignore"}
    assert dataset.labels.ignored == 2


@pytest.mark.parametrize("wrong", [{"numTraining": 3}, {"channel_names": {"0": "CT"}}])
def test_an_nnunet_description_that_counts_wrongly_is_refused(tmp_path, wrong):
    touch(tmp_path, "imagesTr/x_0000.nii", "imagesTr/x_0001.nii", "labelsTr/x.nii")
    content = {"channel_names": {"0": "a", "1": "b"}, "file_ending": ".nii", "numTraining": 1, "labels": {}}
    assert open_dataset(describe(tmp_path, content)).layout == "nnunet"
    refused("CASES_MISSING", describe(tmp_path, {**content, **wrong}))


def test_regions_of_labels_are_kept_and_written_back(tmp_path):
    touch(tmp_path, "a.nii", "m.nii")
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    dataset = open_dataset(decathlon(tmp_path, [("a.nii", "m.nii")], labels=labels))
    assert dataset.labels.regions == {"whole": (1, 2), "core": (2,)}
    assert set(dataset.labels.names) == {0, 1, 2}
    (tmp_path / "dataset.json").unlink()
    write_dataset(dataset, tmp_path)
    assert open_dataset(tmp_path).labels == dataset.labels


@pytest.mark.parametrize("path", ["../a.nii", "/etc/a.nii", "x/../../a.nii", "C:\\a.nii", "..\\a.nii", ".."])
@pytest.mark.parametrize("key", ["image", "label"])
def test_a_description_may_not_lead_out_of_its_folder(tmp_path, path, key):
    touch(tmp_path, "b.nii")
    pair = {"image": "b.nii", "label": "b.nii", key: path}
    assert path.replace("\\", "\\\\") in refused("PATH_OUTSIDE", describe(tmp_path, {"training": [pair]})).problem


def test_missing_files_are_named_all_at_once(tmp_path):
    touch(tmp_path, "a.nii")
    problem = refused("FILES_MISSING", decathlon(tmp_path, [("a.nii", "x.nii"), ("y.nii", "z.nii")])).problem
    assert all(name in problem for name in ("x.nii", "y.nii", "z.nii"))
    assert "3 files" in problem


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"training": {}},
        {"training": ["a.nii"]},
        {"training": [{"image": "a.nii"}]},
        {"training": [{"image": 3, "label": "a.nii"}]},
        {"training": [{"image": [], "label": "a.nii"}]},
        {"training": [], "labels": {"a": 1, "b": 1}},
        {"training": [], "labels": {"a": -1}},
        {"training": [], "labels": {"a": True}},
        {"training": [], "labels": ["a"]},
        {"training": [], "modality": 4},
        {"name": "nothing"},
    ],
)
def test_a_description_of_wrong_form_is_refused(tmp_path, content):
    refused("DESCRIPTION_INVALID", describe(touch(tmp_path, "a.nii"), content))


@pytest.mark.parametrize("text", ["{", "\udcff", "[" * 100_000])
def test_a_description_that_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text, errors="surrogateescape")
    refused("DESCRIPTION_INVALID", tmp_path)


def test_a_description_without_cases_is_no_data_set(tmp_path):
    refused("NO_CASES", describe(tmp_path, {"training": []}))


def test_hidden_copies_in_a_description_are_skipped(tmp_path):
    touch(tmp_path, "a.nii", "m.nii")
    dataset = open_dataset(decathlon(tmp_path, [("a.nii", "m.nii"), ("./._a.nii", "./._m.nii")]))
    assert len(dataset.cases) == 1


def test_equal_file_names_in_two_folders_become_two_ids(tmp_path):
    touch(tmp_path, "p1/scan.nii", "p1/mask.nii", "p2/scan.nii", "p2/mask.nii")
    dataset = open_dataset(decathlon(tmp_path, [(f"{p}/scan.nii", f"{p}/mask.nii") for p in ("p1", "p2")]))
    assert [case.id for case in dataset.cases] == ["p1/scan", "p2/scan"]


def test_a_table_gives_channels_ids_groups_and_slices(tmp_path):
    touch(tmp_path, "a.tif", "b.tif", "m.tif")
    rows = "image,image_2,label,id,group\na.tif#0,b.tif#0,m.tif#0,one,anna\na.tif#1,b.tif#1,m.tif#1,,\n"
    (tmp_path / "cases.csv").write_text(rows, encoding="utf-8-sig")
    dataset = open_dataset(tmp_path / "cases.csv")
    root = str(tmp_path)
    assert dataset.layout == "csv"
    assert dataset.cases == (
        Case("a_001", (f"{root}/a.tif#1", f"{root}/b.tif#1"), f"{root}/m.tif#1", "a_001"),
        Case("one", (f"{root}/a.tif#0", f"{root}/b.tif#0"), f"{root}/m.tif#0", "anna"),
    )


def test_a_table_may_use_semicolons_and_stand_in_the_folder(tmp_path):
    touch(tmp_path, "a.nii", "m.nii")
    (tmp_path / "dataset.csv").write_text("image;label\na.nii;m.nii\n")
    assert open_dataset(tmp_path).cases[0].id == "a"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "image,label\n",
        "image\na.nii\n",
        "scan,label\na.nii,a.nii\n",
        "image,label\na.nii,\n",
        "image,label\n,a.nii",
    ],
)
def test_a_table_with_gaps_is_refused(tmp_path, text):
    (touch(tmp_path, "a.nii") / "t.csv").write_text(text)
    refused("DESCRIPTION_INVALID", tmp_path / "t.csv")


def test_one_id_given_twice_is_refused(tmp_path):
    (touch(tmp_path, "a.nii", "b.nii") / "t.csv").write_text("image,label,id\na.nii,b.nii,x\nb.nii,a.nii,x\n")
    refused("CASE_TWICE", tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", "a\\\\..", ".", "a//b", "a\nb"])
def test_an_id_that_is_no_plain_path_is_refused(tmp_path, name):
    pair = {"image": "a.nii", "label": "a.nii", "id": name}
    refused("CASE_ID_INVALID", describe(touch(tmp_path, "a.nii"), {"training": [pair]}))


def test_a_written_data_set_reads_back_the_same(tmp_path):
    touch(tmp_path, "a.tif", "x/b.nii", "x/m.nii")
    cases = (
        Case("a three", (str(tmp_path / "a.tif#3"),), str(tmp_path / "a.tif#4"), "anna"),
        Case("b", (str(tmp_path / "x/b.nii"), str(tmp_path / "a.tif")), str(tmp_path / "x/m.nii"), "bert"),
    )
    touch(tmp_path, "l.png", "r.png", "4d.nii")
    halves = (str(tmp_path / "l.png"), str(tmp_path / "r.png"))
    cases += (Case("c", (str(tmp_path / "4d.nii#t1"), str(tmp_path / "4d.nii#t0")), halves, "carl"),)
    dataset = Dataset(tmp_path, cases, Labels({0: "background", 7: "tumour"}), ("CT", "PET"), "csv")
    write_dataset(dataset, tmp_path)
    again = open_dataset(tmp_path)
    assert (again.cases, again.labels, again.channels) == (dataset.cases, dataset.labels, dataset.channels)
    assert write_dataset(again, tmp_path) == tmp_path / "dataset.json"


def test_writing_does_not_replace_another_description(tmp_path):
    touch(tmp_path, "a.nii", "m.nii")
    dataset = open_dataset(decathlon(tmp_path, [("a.nii", "m.nii")], name="precious"))
    with pytest.raises(OutputError, match="OUTPUT_EXISTS"):
        write_dataset(dataset, tmp_path)
    assert "precious" in (tmp_path / "dataset.json").read_text()


def test_a_description_cannot_be_written_away_from_its_files(tmp_path):
    touch(tmp_path, "data/a.nii", "data/m.nii")
    dataset = open_dataset(decathlon(tmp_path / "data", [("a.nii", "m.nii")]))
    refused("PATH_OUTSIDE", dataset, lambda d: write_dataset(d, tmp_path / "other"))


def test_a_table_may_name_the_parts_of_a_mask_and_a_frame_of_a_cine(tmp_path):
    touch(tmp_path, "a.png", "l.png", "r.png", "4d.nii", "m.nii")
    (tmp_path / "t.csv").write_text("image,label,label_2\na.png,l.png,r.png\n4d.nii#t7,m.nii,\n")
    cine, xray = open_dataset(tmp_path / "t.csv").cases
    assert xray.label == xray.label_files == (str(tmp_path / "l.png"), str(tmp_path / "r.png"))
    assert (cine.id, cine.images, cine.label) == ("4d_t007", (f"{tmp_path}/4d.nii#t7",), str(tmp_path / "m.nii"))


def test_a_description_may_name_the_parts_of_a_mask_and_all_must_be_there(tmp_path):
    touch(tmp_path, "a.png", "l.png")
    pair = {"image": "a.png", "label": ["l.png", "r.png"]}
    assert "r.png" in refused("FILES_MISSING", describe(tmp_path, {"training": [pair]})).problem
    touch(tmp_path, "r.png")
    (case,) = open_dataset(tmp_path).cases
    assert case.label == (str(tmp_path / "l.png"), str(tmp_path / "r.png"))


@pytest.mark.parametrize("label", [[], ["a.nii", 3], None])
def test_a_description_without_a_mask_s_files_is_refused(tmp_path, label):
    refused(
        "DESCRIPTION_INVALID", describe(touch(tmp_path, "a.nii"), {"training": [{"image": "a.nii", "label": label}]})
    )
