import json
import multiprocessing
import time

import pytest

from medseg.errors import LockedError, OutputError
from medseg.files import hold, write_json, write_text, write_whole


def test_text_and_json_are_written_whole_and_folders_are_made(tmp_path):
    write_text("grün\n", tmp_path / "deep" / "a.txt")
    write_json({"a": [1, "ü"]}, tmp_path / "b.json")
    assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf8") == "grün\n"
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf8")) == {"a": [1, "ü"]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json", "deep"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text("old", path)

    def fill_the_disk(file):
        file.write(b"half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"OUTPUT_UNWRITABLE.*No space left"):
        write_whole(path, fill_the_disk)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_path_below_a_file_cannot_be_written_or_held(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        write_text("a", tmp_path / "file" / "a.txt")
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"), hold(tmp_path / "file" / "out"):
        pass


def _hold(folder, is_held, seconds):
    with hold(folder):
        is_held.set()
        time.sleep(seconds)


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    is_held = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "out", is_held, 60))
    other.start()
    try:
        assert is_held.wait(30)
        with pytest.raises(LockedError, match="OUTPUT_LOCKED"), hold(tmp_path / "out"):
            pass
    finally:
        other.kill()
        other.join()
    with hold(tmp_path / "out"):
        pass


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (RuntimeError("file write failed"), OutputError),
        (KeyError("a"), KeyError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_whatever_stops_a_write_no_part_is_left(tmp_path, raised, seen):
    def stop(file):
        file.write(b"half")
        raise raised

    with pytest.raises(seen):
        write_whole(tmp_path / "a.pt", stop)
    assert not list(tmp_path.iterdir())


def test_an_interrupt_while_writing_is_no_full_disk(tmp_path):
    def interrupted(file):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos")  # as torch.save does when it closes its archive

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", interrupted)
