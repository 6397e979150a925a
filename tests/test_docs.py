"""The pages say what is so: their commands run, their links lead somewhere, their tables are complete."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path

import pytest

import medseg
from medseg import cli

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
VERBS = tuple(cli.VERBS)

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def run_blocks(page: Path, folder: Path) -> None:
    """Run a page's bash and python blocks, in order, in ``folder``."""
    place = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    interpreters = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    for language, text in BLOCK.findall(page.read_text(encoding="utf8")):
        done = subprocess.run(
            [*interpreters[language], text],
            cwd=folder,
            env={**os.environ, "PATH": place},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{page.name}:\n{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf8")


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory) -> Path:
    """What docs/how-to/demo.md leaves behind; the other pages start from it."""
    folder = tmp_path_factory.mktemp("demo")
    run_blocks(DOCS / "how-to" / "demo.md", folder)
    return folder


@pytest.fixture
def started(demo_folder, tmp_path) -> Path:
    shutil.copytree(demo_folder / "demo-output", tmp_path / "demo-output")
    return tmp_path


def test_the_demo_page_leads_to_a_page_with_pictures(demo_folder):
    assert "data:image/png" in (demo_folder / "demo-output" / "report.html").read_text(encoding="utf8")


def test_the_commands_of_the_predict_page_run(started):
    run_blocks(DOCS / "how-to" / "predict.md", started)


def test_the_commands_of_the_dicom_page_run(started):
    run_blocks(DOCS / "how-to" / "dicom.md", started)


def test_the_commands_of_the_evaluate_page_run(started):
    run_blocks(DOCS / "how-to" / "evaluate.md", started)


def test_the_commands_of_the_check_page_run(tmp_path):
    run_blocks(DOCS / "how-to" / "check.md", tmp_path)


def test_the_commands_of_the_page_on_checking_bundles_run(tmp_path):
    run_blocks(DOCS / "how-to" / "verify.md", tmp_path)


def test_the_commands_of_the_export_page_run(started):
    run_blocks(DOCS / "how-to" / "export.md", started)


@pytest.mark.slow
def test_the_code_of_the_figures_page_runs(started):
    run_blocks(DOCS / "how-to" / "figures.md", started)


def test_the_code_of_the_python_page_runs(started):
    run_blocks(DOCS / "how-to" / "python.md", started)


def test_the_code_of_the_networks_page_runs(tmp_path):
    run_blocks(DOCS / "reference" / "networks.md", tmp_path)


@pytest.mark.slow
def test_the_commands_of_the_readme_run(started):
    (started / "bundles").symlink_to(ROOT / "bundles")
    run_blocks(ROOT / "README.md", started)


@pytest.mark.slow
def test_the_commands_of_the_train_page_run(started):
    run_blocks(DOCS / "how-to" / "train.md", started)


@pytest.mark.slow
def test_the_commands_of_the_compare_page_run(tmp_path):
    run_blocks(DOCS / "how-to" / "compare.md", tmp_path)


@pytest.mark.slow
def test_the_commands_of_the_bundle_page_run(started):
    run_blocks(DOCS / "reference" / "bundles.md", started)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_between_the_pages_leads_somewhere(page):
    prose = FENCED.sub("", page.read_text(encoding="utf8"))
    links = [link for link in LINK.findall(prose) if not link.startswith(("http://", "https://", "mailto:"))]
    for link in links:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def anchors(page: Path) -> set[str]:
    """The names of a page's headings as web addresses have them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(page.read_text("utf8"))]
        waiting += [target for target in targets if target.is_file()]
    assert set(PAGES) <= reached


def test_the_make_targets_named_in_the_pages_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf8")
        named = re.findall(r"`make ([a-z-]+)`", text) + re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
        assert set(named) <= targets, page


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_on_its_page(verb, capsys):
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help"}
    page = text_of(f"how-to/{verb}.md")
    assert options
    assert not {option for option in options if f"`{option}" not in page}


@pytest.mark.parametrize(("verb", "page"), [("verify", "verify"), ("export", "export")])
def test_every_option_of_a_verb_for_bundles_is_on_its_page(verb, page, capsys):
    with pytest.raises(SystemExit):
        cli.main(["bundle", verb, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help"}
    assert options
    assert not {option for option in options if f"`{option}" not in text_of(f"how-to/{page}.md")}


@pytest.mark.parametrize("verb", [*VERBS, "export"])
def test_every_option_in_the_table_of_a_page_is_one_with_the_same_choices(verb):
    command = {**cli.VERBS, **cli.OF_BUNDLES}[verb][0]
    known = {item.metadata["flag"]: item for item in cli.list_fields(command)}
    section = text_of(f"how-to/{verb}.md").split("\n## Options\n")[1].split("\n## ")[0]
    shown = [cell for line in section.splitlines() for cell in re.findall(r"`(--[^`]+)`", first_cell(line))]
    assert shown
    for words in shown:
        flag, _, value = words.replace("\\|", "|").partition(" ")
        assert flag in known, words
        choices = known[flag].metadata.get("choices")
        if "|" in value and choices:
            assert set(value.split("|")) == set(choices), words


def first_cell(line: str) -> str:
    """The first cell of a table's row, empty where the line is none."""
    cells = re.split(r"(?<!\\)\|", line)
    return cells[1] if len(cells) > 2 else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_module_and_name_of_medseg_on_a_page_exists(page):
    for dotted in re.findall(r"(?<![\w/.-])medseg(?:\.[A-Za-z_]\w*)+", page.read_text(encoding="utf8")):
        found = medseg
        for name in dotted.split(".")[1:]:
            if not hasattr(found, name):
                importlib.import_module(f"{found.__name__}.{name}")
            found = getattr(found, name)


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "benchmarks" / "README.md"], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_every_file_of_the_project_on_a_page_exists(page):
    named = re.findall(
        r"`((?:medseg|tests|tools|benchmarks|docs)/[\w./-]+\.(?:py|md))`", page.read_text(encoding="utf8")
    )
    assert not {name for name in named if not (ROOT / name).is_file()}


def test_the_export_page_names_every_step_that_can_be_exported():
    from medseg.inference.steps.numpy_steps import BEFORE, LATER

    page = text_of("how-to/export.md")
    assert not {name for name in [*BEFORE, *LATER] if f"`{name}d`" not in page}


def test_every_code_on_the_page_on_intake_is_explained():
    page, errors = (ROOT / "docs" / name for name in ("intake.md", "reference/errors.md"))
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+_[A-Z0-9_]+)`", page.read_text(encoding="utf8")))
    assert len(named) > 30
    assert named <= set(re.findall(r"^\| `([A-Z0-9_]+)`", errors.read_text(encoding="utf8"), re.MULTILINE))


def test_the_page_on_networks_names_every_network_option_and_published_size():
    from medseg.networks import MONAI_NETWORKS, NETWORKS, PUBLISHED, UNetSettings

    page = text_of("reference/networks.md")
    options = [item.name for item in fields(UNetSettings)]
    assert not {name for name in [*NETWORKS, *MONAI_NETWORKS, *options, *PUBLISHED] if f"`{name}`" not in page}
    for item in fields(UNetSettings):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{item.name}` |"))
        assert f"`{item.default}`" in row, item.name
    assert not {row.parameters for row in PUBLISHED.values() if f"{row.parameters:,}" not in page}


def test_the_page_on_losses_names_every_loss_with_its_options():
    from medseg.losses import LOSSES

    page = text_of("reference/losses.md")
    for name, loss in LOSSES.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        named = [each for each in inspect.signature(loss).parameters.values() if each.kind is not each.VAR_POSITIONAL]
        for option in (each.name for each in named if each.kind is not each.VAR_KEYWORD):
            assert f"`{option}`" in row, (name, option)


def test_the_page_on_formats_names_every_suffix():
    from medseg.data.formats.table import FORMATS, WRITTEN

    page = text_of("reference/formats.md")
    suffixes = {suffix for reader in FORMATS for suffix in reader.suffixes} | set(WRITTEN)
    assert not {suffix for suffix in suffixes if f"`{suffix}`" not in page}


def test_the_layers_in_the_pages_are_those_that_are_checked():
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf8")
    layers = (
        re.sub(r"[()]", "", parser["importlinter:contract:layers"]["layers"].strip()).replace(" | ", ", ").splitlines()
    )
    assert " → ".join(layers) in text_of("concepts.md")
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")
    rows = re.findall(r"^\| (`[a-z_`, ]+) \|", contributing, re.MULTILINE)
    assert [row.replace("`", "") for row in rows if not row.startswith("`make")] == layers


def test_the_train_page_shows_every_layout():
    from medseg.data.cases.layouts import LAYOUTS

    page = text_of("how-to/train.md")
    assert not {layout.name for layout in LAYOUTS if f"`{layout.name}`" not in page}


def test_the_readme_names_every_network_loss_and_bundle():
    from medseg.losses import LOSSES
    from medseg.networks import MONAI_NETWORKS, NETWORKS

    readme = (ROOT / "README.md").read_text(encoding="utf8")
    bundles = [path.parent.name for path in (ROOT / "bundles").glob("*/configs")]
    assert bundles
    assert not {name for name in [*NETWORKS, *MONAI_NETWORKS, *LOSSES, *bundles] if f"`{name}`" not in readme}
