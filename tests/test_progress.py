import sys

from medseg.progress import Progress


def test_without_a_terminal_there_are_plain_lines(capsys):
    with Progress("predict", "case", is_quiet=False) as progress:
        progress.within("a", 3)
        progress.step(2, "a: a.nii.gz")
        progress.step(2, "b: failed")
        progress.line("done")
    assert capsys.readouterr().err == "[1/2] a: a.nii.gz\n[2/2] b: failed\ndone\n"


def test_when_quiet_there_is_nothing(capsys):
    with Progress("predict", "case", is_quiet=True) as progress:
        progress.step(1, "a")
        progress.to(1, 1)
        progress.line("done")
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_a_bar_for_the_run_and_one_for_the_case(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("predict", "case", is_quiet=False) as progress:
        progress.step(2, "a: a.nii.gz")
        progress.within("b", 5)
    told = capsys.readouterr().err
    assert "predict" in told
    assert "1/2" in told
    assert "5window" in told
