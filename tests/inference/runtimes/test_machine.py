import os

import pytest

from medseg.inference.runtimes import machine
from medseg.inference.runtimes.machine import count_usable_cores, identify_cpu, read_quota


@pytest.mark.parametrize(
    ("unified", "quota_us", "period_us", "cores"),
    [
        ("150000 100000\n", "", "", 1.5),
        ("max 100000\n", "", "", None),
        ("", "400000\n", "100000\n", 4.0),
        ("", "-1\n", "100000\n", None),
        ("", "", "", None),
        ("nonsense", "", "", None),
        ("100000 0", "", "", None),
    ],
)
def test_the_quota_of_a_control_group_is_read_in_cores(unified, quota_us, period_us, cores):
    assert read_quota(unified, quota_us, period_us) == cores


@pytest.mark.parametrize(("quota", "cores"), [(None, 6), (0.5, 1), (1.5, 2), (64.0, 6)])
def test_no_more_cores_are_used_than_affinity_and_quota_allow(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(machine, "read_quota", lambda *_: quota)
    assert count_usable_cores() == cores


def test_a_machine_without_these_files_still_has_a_name_and_a_core(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CPU_FILE", tmp_path / "none")
    monkeypatch.setattr(machine, "QUOTA_FILES", (tmp_path / "none",) * 3)
    assert identify_cpu() == identify_cpu() != ""
    assert count_usable_cores() >= 1
