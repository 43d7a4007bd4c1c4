"""The report and the whole way from a results directory to files."""

import itertools
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from medrec.errors import ConfigError
from sweeps.errors import StoreError
from sweeps.figures._base import style
from sweeps.regenerate import regenerate
from sweeps.report import headline
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from tests.sweeps.fabricate import fabricate

ROOT = Path(__file__).resolve().parents[2]
FIGURES = (
    "forest", "jaccard_ddi", "learning_curves", "performance_profiles", "reliability",
    "search_budget",
)  # fmt: skip
VOID = {"meta", "path", "use", "rect"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    fabricate(root)
    return root, regenerate(root)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids, self.headings, self.links, self.svgs = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [v for k, v in attrs if k in ("href", "src", "xlink:href", "clip-path")]
        self.headings += [tag] if re.fullmatch("h[1-6]", tag) else []
        self.svgs += [named] if tag == "svg" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(made):
    text = (made[0] / "report.html").read_text()
    parsed = Page()
    parsed.feed(text)
    return text, parsed


def test_every_file_is_written_and_named(made):
    root, paths = made
    names = [str(path.relative_to(root)) for path in paths]
    tables = (
        "verdicts",
        "baselines",
        "baselines_transitions",
        "ablation_full",
        "exploratory",
        "legacy",
        "search",
        "search_pareto",
        "cost",
    )
    assert names == [
        *(f"tables/{name}.{form}" for name in tables for form in ("md", "csv", "tex")),
        *(f"figures/{name}.{form}" for name in FIGURES for form in ("svg", "png")),
        "report.html",
    ]
    assert not [p for p in root.rglob(".*") if p.parent.name in ("tables", "figures")]


def test_repeating_gives_the_same_bytes(made):
    root, paths = made
    first = {path: path.read_bytes() for path in paths}
    assert regenerate(root) == paths
    assert {path: path.read_bytes() for path in paths} == first


def test_the_page_is_well_formed_and_needs_nothing_from_outside(page):
    text, parsed = page
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    targets = [re.sub(r"^url\(|\)$", "", link) for link in parsed.links]
    assert all(target.startswith("#") for target in targets)
    assert {target[1:] for target in targets} <= set(parsed.ids)
    assert "<script" not in text
    assert "@import" not in text
    levels = [int(tag[1]) for tag in parsed.headings]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_figures_are_named_for_those_who_cannot_see_them(page):
    text, parsed = page
    assert len(parsed.svgs) == len(FIGURES)
    for svg in parsed.svgs:
        assert svg["role"] == "img"
        assert f'<title id="{svg["aria-labelledby"]}">' in text


def test_arms_can_be_told_apart_in_figures():
    assert len({(style(i)["color"], style(i)["marker"]) for i in range(42)}) == 42


def test_user_text_is_escaped_and_failures_are_told(page):
    text, _ = page
    assert "on &lt;these&gt; patients" in text
    assert "epoch 2 &lt;of&gt; 6" in text
    assert "<these>" not in text
    assert "gives no treatment advice" in text
    assert "torch" in text
    assert "2.8.0" in text


def test_the_headline_lists_every_arm_under_its_verdict(made):
    results = gather(ResultsStore(made[0]))
    lead, *lines = headline(results)
    assert lead.startswith("Verdicts on Jaccard, compared with Full model, ablations with their")
    for arm in results.record.arms:
        found = results.verdict(arm.name)
        if found is None:
            assert not any(f"{arm.title} (" in line for line in lines)
            continue
        word = {"hurts": "Worse", "helps": "Better", "undecided": "Undecided"}[found.word]
        (line,) = [line for line in lines if f"{arm.title} (" in line]
        assert line.startswith(word)


def test_verdicts_come_first_and_every_section_is_linked(made):
    text = (made[0] / "report.html").read_text()
    order = [text.index(f'<h2 id="{name}"') for name in ("verdicts", "protocol", "tables")]
    assert order == sorted(order)
    assert text.index('id="table-verdicts"') < text.index('id="table-baselines"')
    for name in ("figures", "searches", "what-was-not-done", "provenance"):
        assert f'href="#{name}"' in text


def test_holes_are_told(tmp_path):
    record = fabricate(tmp_path, resamples=20)
    shutil.rmtree(tmp_path / "trials" / record.arms[1].trials["1"])
    shutil.rmtree(tmp_path / "trials" / record.arms[0].trials["0"])
    regenerate(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "GAMENet: 2 of 3 seeds" in text
    assert "Most popular: no trial is stored" in text


def test_a_directory_without_trials_still_makes_a_report(tmp_path):
    fabricate(tmp_path, resamples=20)
    shutil.rmtree(tmp_path / "trials")
    paths = regenerate(tmp_path)
    assert [path.stem for path in paths if path.suffix == ".svg"] == ["search_budget"]
    assert "No trial is stored yet." in paths[-1].read_text()


def test_only_the_formats_asked_for_are_written(tmp_path):
    fabricate(tmp_path, resamples=20)
    assert {path.suffix for path in regenerate(tmp_path, ("csv",))} == {".csv"}
    with pytest.raises(ConfigError, match="not 'pdf'"):
        regenerate(tmp_path, ("pdf",))
    with pytest.raises(StoreError, match="holds no study"):
        regenerate(tmp_path / "nothing")


BLOCKED = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "ray", "optuna"}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Wall())
from pathlib import Path
from sweeps.regenerate import regenerate
assert "matplotlib" not in sys.modules
print(len(regenerate(Path(sys.argv[1]))))
"""


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_without_torch_ray_and_optuna_writes_the_same(made, tmp_path, hash_seed):
    root, paths = made
    first = {path.relative_to(root): path.read_bytes() for path in paths}
    shutil.copytree(root, tmp_path / "copy")
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(tmp_path / "copy")],
        cwd=ROOT,
        env={"PYTHONHASHSEED": hash_seed, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) == len(paths)
    assert {name: (tmp_path / "copy" / name).read_bytes() for name in first} == first


def test_a_table_that_does_not_apply_is_named_with_what_it_needs(tmp_path):
    record = fabricate(tmp_path)
    wanted = ("baselines", "services", "settings")
    ResultsStore(tmp_path).write_study(record.model_copy(update={"tables": wanted}))
    regenerate(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "services (needs two services, one with 30 test visits)" in text
    assert "settings (needs arms with a grid)" in text
    assert "baselines (needs" not in text
