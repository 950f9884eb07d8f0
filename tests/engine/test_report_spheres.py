"""Pictures to look around in: found, put on the page, and never to be trusted."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
import torch

from salticid.engine.report import write_report
from salticid.engine.report.spheres import INDEX, clear, find_spheres, folder_of, index_of, path_of
from salticid.engine.report.viewer import BUDGET, NAMES, SAMPLES
from salticid.errors import UserError
from salticid.evaluate.gpano import save_panorama
from salticid.evaluate.pictures import save_png

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>\x00'


class Pictures(HTMLParser):
    """The panoramas on a page, the groups that they are in, and what is listed as broken."""

    def __init__(self, html):
        super().__init__()
        self.images, self.groups, self.problems, self.listed = [], [], [], False
        self.scripts = html.count("<script")
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert not any(name.startswith("on") for name in attributes)
        if tag == "img":
            self.images.append(attributes)
        if attributes.get("class") == "sphere":
            self.groups.append(attributes)
        self.listed = tag == "li"

    def handle_data(self, data):
        if self.listed:
            self.problems.append(data)
        self.listed = False

    @property
    def shown(self):
        return [(image["data-sample"], image["data-name"]) for image in self.images]


def add(run, stem, pictures, ids=None, names=None):
    """An evaluation with panoramas; `pictures`: {(sample, name): uint8 (3, H, 2H)}."""
    evaluation = run / "evaluation" / stem
    evaluation.parent.mkdir(parents=True, exist_ok=True)
    step = int(re.sub(r"\D", "", stem))
    evaluation.with_name(f"{stem}.json").write_text(json.dumps({"step": step, "metrics": {"psnr": 1.0}}))
    for (sample, name), picture in pictures.items():
        save_panorama(picture, path_of(folder_of(evaluation), sample, name))
    if ids is not None:
        (folder_of(evaluation) / INDEX).write_text(index_of(ids, names))
    return folder_of(evaluation)


def page_of(run):
    return Pictures(write_report(run).read_text(encoding="utf-8"))


def noise(height, seed=0):
    return torch.randint(0, 256, (3, height, 2 * height), generator=torch.Generator().manual_seed(seed)).byte()


@pytest.fixture
def four():
    return {(sample, name): noise(4, sample) for sample in (1, 2) for name in ("truth", "12-step")}


def test_the_page_has_a_viewer_for_an_evaluation_with_panoramas(tmp_path, four):
    add(tmp_path, "step-00000001-ema", four, ["scene/1", f"scene {EVIL}"], ["truth", "12-step"])
    add(tmp_path, "step-00000002-ema", {})
    page = page_of(tmp_path)
    assert page.shown == [("1", "truth"), ("1", "12-step"), ("2", "truth"), ("2", "12-step")]
    assert [group["aria-label"] for group in page.groups] == ["360° pictures of the evaluation step-00000001-ema"]
    assert page.images[0]["data-title"] == "sample 1: scene/1"
    assert page.images[0]["alt"] == "truth, sample 1: scene/1, equirectangular"
    assert page.images[2]["data-title"].startswith('sample 2: scene "><script>alert(1)')
    assert page.scripts == 1, "the id is text"
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.images)
    assert page.problems == []


def test_without_panoramas_there_is_no_viewer(tmp_path):
    folder = add(tmp_path, "step-00000001-ema", {})
    assert page_of(tmp_path).groups == []
    folder.mkdir()
    assert page_of(tmp_path).groups == []


def test_the_policy_allows_the_page_its_own_script_alone(tmp_path, four):
    add(tmp_path, "step-00000001-ema", four)
    html = write_report(tmp_path).read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    assert script.startswith('"use strict";')
    assert ".film" in script
    assert ".sphere" in script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html


def test_broken_and_foreign_files_are_said_or_passed_over(tmp_path, four):
    folder = add(tmp_path, "step-00000001-ema", four)
    (folder / "01-12-step.png").write_bytes(b"\x89PNG")
    save_png(noise(4)[..., :5], folder / "02-truth.png")
    (folder / "03-truth.png").mkdir()
    (folder / INDEX).write_text('{"ids": 3}')
    for name in ("x.png", "01-A.png", "01-<b>.png", "1-truth.png", "01-truth.svg", "01-..png", "٠١-truth.png"):
        (folder / name).write_bytes(b"<svg onload='alert(1)'/>")
    page = page_of(tmp_path)
    assert page.shown == [("1", "truth"), ("2", "12-step")]
    assert page.problems == [
        "evaluation/step-00000001-ema-360/index.json: not readable",
        "evaluation: 2 360° pictures of step-00000001-ema not readable",
    ]


@pytest.mark.parametrize("index", ["[" * 10_000, "\xff", "[]", "{}", '{"ids": [1], "names": null}', "null"])
def test_pictures_are_shown_whatever_the_index_says(tmp_path, four, index):
    folder = add(tmp_path, "step-00000001-ema", four)
    (folder / INDEX).write_bytes(index.encode("latin-1"))
    problems = []
    found = find_spheres(tmp_path / "evaluation/step-00000001-ema", problems)
    assert [(s.sample, s.name, s.id) for s in found] == [
        (1, "12-step", ""), (1, "truth", ""), (2, "12-step", ""), (2, "truth", "")
    ]  # fmt: skip
    assert problems == ["evaluation/step-00000001-ema-360/index.json: not readable"]


def test_panoramas_of_all_evaluations_share_a_budget(tmp_path):
    for step in range(1, 7):
        add(tmp_path, f"step-{step:08d}-raw", {(s, "truth"): noise(160, 10 * step + s) for s in range(1, 6)})
    page = page_of(tmp_path)
    assert len(page.groups) == 4, "of the newest evaluations"
    assert {sample for sample, _ in page.shown} == {str(sample) for sample in range(1, SAMPLES + 1)}
    assert sum(len(image["src"]) for image in page.images) < BUDGET * 4 / 3 + 100 * len(page.images)


def test_large_panoramas_are_made_smaller_and_stay_panoramas(tmp_path, monkeypatch):
    monkeypatch.setattr("salticid.engine.report.tables.BUDGET", 8_000)
    add(tmp_path, "step-00000001-raw", {(1, "truth"): noise(125)})
    (image,) = page_of(tmp_path).images
    assert image["src"].startswith("data:image/jpeg;base64,")
    assert len(image["src"]) < 8_000 * 4 / 3 + 40
    assert 2 * int(image["height"]) == pytest.approx(int(image["width"]), abs=4)


def test_there_is_an_end_to_names(tmp_path):
    add(tmp_path, "step-00000001-raw", {(1, f"n{i}"): noise(1) for i in range(NAMES + 3)})
    assert len(page_of(tmp_path).images) == NAMES


def test_only_our_own_files_are_cleared(tmp_path, four):
    folder = add(tmp_path, "step-00000001-ema", four, ["a", "b"], ["truth", "12-step"])
    (folder / "mine.png").touch()
    clear(folder)
    assert [path.name for path in folder.iterdir()] == ["mine.png"]
    (folder / "mine.png").unlink()
    clear(folder)
    assert not folder.exists()
    clear(folder)
    with pytest.raises(UserError, match="is no name of lower-case letters"):
        path_of(folder, 1, "../up")
