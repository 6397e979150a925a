"""The pages say what is so: their commands run, their links lead somewhere, their tables are complete."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path

import pytest

from medseg import cli, errors

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
VERBS = ("check", "compare", "demo", "evaluate", "predict", "train")

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")


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
    run_blocks(DOCS / "how-to" / "bundle.md", tmp_path)


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


@pytest.mark.parametrize(("verb", "page"), [("verify", "bundle"), ("export", "export")])
def test_every_option_of_a_verb_for_bundles_is_on_its_page(verb, page, capsys):
    with pytest.raises(SystemExit):
        cli.main(["bundle", verb, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help"}
    assert options
    assert not {option for option in options if f"`{option}" not in text_of(f"how-to/{page}.md")}


def test_the_export_page_names_every_step_that_can_be_exported():
    from medseg.inference.steps.numpy_steps import BEFORE, LATER

    page = text_of("how-to/export.md")
    assert not {name for name in [*BEFORE, *LATER] if f"`{name}d`" not in page}


def codes_in_source() -> tuple[dict[str, set[str]], set[str]]:
    """Error codes with the classes that they are raised as, and codes of notes, from the syntax trees."""
    raised: dict[str, set[str]] = defaultdict(set)
    noted: set[str] = set()
    for path in (ROOT / "medseg").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf8"))
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            values = [constants.get(arg.id) if isinstance(arg, ast.Name) else _constant(arg) for arg in call.args]
            code = values[1] if name == "Finding" and len(values) > 1 else values[0] if values else None
            if not isinstance(code, str) or not CODE.fullmatch(code):
                continue
            if name in ("Note", "Finding"):
                noted.add(code)
            elif name == "check_known":
                raised[code].add("UsageError")
            elif name.endswith("Error"):
                raised[code].add(name)
    return dict(raised), noted


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def rows_of(section: str) -> list[list[str]]:
    """The cells of the tables below a heading of the page on errors."""
    text = re.split(r"^## ", text_of("reference/errors.md"), flags=re.MULTILINE)
    found = next(part for part in text if part.startswith(section))
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in found.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_code_on_the_page_on_intake_is_explained():
    page, errors = (ROOT / "docs" / name for name in ("intake.md", "reference/errors.md"))
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+_[A-Z0-9_]+)`", page.read_text(encoding="utf8")))
    assert len(named) > 30
    assert named <= set(re.findall(r"^\| `([A-Z0-9_]+)`", errors.read_text(encoding="utf8"), re.MULTILINE))


def test_the_page_on_errors_lists_every_error_of_the_source_with_its_classes_and_exit_codes():
    raised, _ = codes_in_source()
    rows = rows_of("Errors")
    listed = {row[0].strip("`"): row for row in rows}
    assert len(listed) == len(rows), "a code is listed twice"
    assert set(listed) == set(raised)
    for code, row in listed.items():
        classes = {word.strip("` ") for word in row[1].split(",")}
        assert classes == raised[code], code
        assert {int(n) for n in row[2].split(",")} == {getattr(errors, name).exit_code for name in classes}, code
        assert all(len(cell) > 10 for cell in row[3:]), code


def test_the_page_on_errors_lists_every_note_of_the_source():
    _, noted = codes_in_source()
    assert sorted(row[0].strip("`") for row in rows_of("Notes")) == sorted(noted)


def test_the_page_on_errors_lists_every_finding_of_a_check_and_the_check_page_what_is_certain():
    from medseg.data.checking.rules import RULES

    rows = {row[0].strip("`"): row[1:3] for row in rows_of("Findings")}
    assert rows == {code: [rule.severity, "yes" if rule.is_fixable else ""] for code, rule in sorted(RULES.items())}
    page = text_of("how-to/check.md")
    assert not {code for code, rule in RULES.items() if rule.is_fixable and f"| `{code}` |" not in page}


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
    from medseg.losses.named import LOSSES

    page = text_of("reference/losses.md")
    for name, loss in LOSSES.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        named = [each for each in inspect.signature(loss).parameters.values() if each.kind is not each.VAR_POSITIONAL]
        for option in (each.name for each in named if each.kind is not each.VAR_KEYWORD):
            assert f"`{option}`" in row, (name, option)


def test_the_page_on_formats_names_every_suffix():
    from medseg.data.images import READERS
    from medseg.data.writing import WRITERS

    page = text_of("reference/formats.md")
    suffixes = {suffix for reader in READERS for suffix in reader.suffixes} | set(WRITERS)
    assert not {suffix for suffix in suffixes if f"`{suffix}`" not in page}


def test_the_layers_in_the_pages_are_those_that_are_checked():
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf8")
    layers = parser["importlinter:contract:layers"]["layers"].strip().replace(" | ", ", ").splitlines()
    assert " → ".join(layers) in text_of("concepts.md")
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")
    rows = re.findall(r"^\| (`[a-z`, ]+) \|", contributing, re.MULTILINE)
    assert [row.replace("`", "") for row in rows if not row.startswith("`make")] == layers


def test_the_train_page_shows_every_layout():
    from medseg.data.layouts import LAYOUTS

    page = text_of("how-to/train.md")
    assert not {layout.name for layout in LAYOUTS if f"`{layout.name}`" not in page}


def test_the_readme_names_every_network_loss_and_bundle():
    from medseg.losses.named import LOSSES
    from medseg.networks import MONAI_NETWORKS, NETWORKS

    readme = (ROOT / "README.md").read_text(encoding="utf8")
    bundles = [path.parent.name for path in (ROOT / "bundles").glob("*/configs")]
    assert bundles
    assert not {name for name in [*NETWORKS, *MONAI_NETWORKS, *LOSSES, *bundles] if f"`{name}`" not in readme}
