import base64
import hashlib
import json
import math
import os
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch
from rich.console import Console

from salticid.engine.journal import FILE
from salticid.engine.log import LogConfig, RunLog
from salticid.engine.report import write_report
from salticid.engine.report.files import higher_is_better, unchanging
from salticid.engine.report.summary import ALIVE
from salticid.engine.report.tables import best_so_far, metrics_table, reference
from salticid.errors import UserError
from salticid.evaluate.pictures import save_png

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\udcff\x00"
VOID = {"meta", "img", "input", "br"}


class Page(HTMLParser):
    """Checks that tags are balanced; gathers scripts, attributes and text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.scripts, self.tags, self.words = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def new_log(folder, start=0, steps=200):
    log = RunLog(folder, LogConfig(every=2), steps=steps, batch=8, console=Console(quiet=True))
    log.rewind(start)
    return log


def fill(log, first, last):
    for step in range(first, last + 1):
        if log.wants(step):
            log.step(step, {"loss": 20 * 0.95**step, "grad_norm": math.inf if step == 4 else 1 / step, "lr": 1e-3})
            log.speed(step, {"samples_per_s": 40.0, "data_wait": 0.01, "memory": 1.5e9, "elapsed": step * 0.5})
        if step % 50 == 0:
            for weights, more in (("raw", 0.0), ("ema", 1.0)):
                metrics = {"psnr/model": 15 + step / 50 + more, "psnr/stitch": 17.0, "distance": 2.5}
                log.event("validation", step, weights=weights, metrics=metrics)
            image = torch.randint(0, 256, (3, 20, 40), dtype=torch.uint8)
            log.picture(step, "preview", image, legend=f"left: truth {EVIL}")


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "panorama" / "tiny"
    log = new_log(folder)
    fill(log, 1, 120)
    log.close("interrupted")
    log = new_log(folder, start=100)
    fill(log, 101, 150)
    log.event("replaced", 150, ids=[f"scene/{EVIL}"])
    log.event("skipped", 150, ids=["b.jpg"], phase="main", reason="not finite")
    fill(log, 151, 200)
    log.close("finished")
    config = f"checkpoint: {{best_metric: psnr/model, best_mode: max}}\nname: '{EVIL[:-2]}'\n"
    (folder / "config.yaml").write_text(config)
    sessions = [{"python": "an earlier one"}, {"python": "3.11", "packages": {"torch": f"2 {EVIL}"}}]
    (folder / "env.json").write_text(json.dumps(sessions))
    (folder / "evaluation").mkdir()
    evaluation = {
        "step": 200,
        "weights": "ema",
        "ema_updates": 150,
        "samples": 32,
        "metrics": {"ssim/model": 0.75, "psnr": None},
    }
    evaluation["baselines"] = {f"blend {EVIL}": {"ssim": 0.5}}
    (folder / "evaluation" / "step-00000200-ema.json").write_text(json.dumps(evaluation))
    return folder


def page_of(folder):
    html = write_report(folder).read_text(encoding="utf-8")
    return html, Page(html)


def test_the_report_says_what_the_run_did(run):
    html, page = page_of(run)
    for words in (
        "tiny finished", "200 of 200 steps · batch 8", "resumed 1 time",
        "psnr/model 20.00 best: ema weights, step 200",
        "40.0 samples/s, median", "1.0 %", "1.5 GB", "1 value not finite", "b.jpg", "not finite",
        "Evaluation step-00000200-ema: step 200, weights ema, ema updates 150, samples 32",
        "0.7500 +0.250", "Last validation: raw weights, step 200", "packages.torch", "the run was resumed there",
    ):  # fmt: skip
        assert words in page.text, words
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings == [
        "Pictures", "Results", "Validation", "Training",
        "Replaced and skipped", "History", "Configuration", "Environment",
    ]  # fmt: skip
    assert "problems" not in [attrs.get("class") for _, attrs in page.tags]


def test_nothing_from_outside_and_nothing_injected(run):
    html, page = page_of(run)
    assert len(page.scripts) == 1
    assert not re.search(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", re.sub(r"base64,[A-Za-z0-9+/=]*", "", html))
    for tag, attrs in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "a"}
        assert not any(name.startswith("on") for name in attrs)
        assert attrs.get("src", "data:image/").startswith("data:image/")
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(sources) == 4
    assert "an earlier one" not in page.text
    assert "alert(1)" in page.text  # shown as text: id, configuration, environment, baseline, legend
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_charts_are_well_formed_xml(run):
    html, _ = page_of(run)
    charts = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, flags=re.S)]
    names = [path.attrib["data-name"] for chart in charts for path in chart.findall("path[@data-name]")]
    assert names == [
        "model · raw", "model · ema", "stitch", "distance",
        "loss", "loss", "grad_norm", "lr", "samples_per_s", "data_wait", "memory",
    ]  # fmt: skip
    loss = next(chart for chart in charts if chart.attrib["aria-label"] == "loss over steps")
    assert len(loss.findall("line[@class='mark']")) == 1
    assert {"0.001", "0.01", "10"} <= {t.text for t in loss.findall("text")}  # 20 … 7e-4: logarithmic


def test_writing_twice_gives_the_same_page(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert not (run / "report.html.tmp").exists()


def test_an_empty_directory_has_a_report(tmp_path):
    html, page = page_of(tmp_path)
    assert f"{tmp_path.name} empty" in page.text
    assert "<h2>" not in html


@pytest.mark.parametrize("kept", [[FILE], ["config.yaml"], ["env.json"], ["samples"], ["evaluation"]])
def test_parts_of_a_run_make_a_report(run, kept):
    for path in sorted(run.rglob("*"), key=lambda p: -len(p.parts)):
        if not any(path.relative_to(run).parts[0] == name for name in kept):
            path.rmdir() if path.is_dir() else path.unlink()
    _, page = page_of(run)
    assert page.text.count("tiny") >= 2


def test_what_is_broken_is_said(run):
    (run / "env.json").write_text("{")
    (run / "config.yaml").write_bytes(b"\xff\xfe: [")
    (run / "evaluation" / "other.json").write_text("[" * 10_000)
    (run / "evaluation" / "third.json").write_text('{"metrics": 3}')
    (run / "samples" / "step-00000200-preview.png").write_bytes(b"\x89PNG")
    with open(run / FILE, "ab") as file:
        file.write(
            b'\x00\xff\n{"kind": "step", "step": 1e3}\n{"kind": "step", "step": 5, "loss": [1], "lr": "x"}\n{"ki'
        )
    _, page = page_of(run)
    for words in (
        "log.jsonl: 3 broken lines left out", "tiny/env.json: not readable as JSON",
        "evaluation/other.json: not readable as JSON", "evaluation/third.json: no metrics in it",
        "samples: 1 picture of preview not readable", "tiny finished",
    ):  # fmt: skip
        assert words in page.text, words


def told(run, extremes, picture=True):
    """The page of a run whose evaluation says this about its extremes."""
    path = run / "evaluation" / "step-00000200-ema.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extremes": extremes}))
    if picture:
        grey = torch.full((3, 20, 40), 90, dtype=torch.uint8)
        save_png(grey, path.with_name("step-00000200-ema-extremes.png"))
    return page_of(run)


def test_the_best_and_the_worst_samples_are_shown_under_their_evaluation(run):
    before = len(page_of(run)[1].tags)
    extremes = {"metric": "ssim/model", "best": [f"a/{EVIL}", "b"], "worst": ["c", 7]}
    html, page = told(run, extremes)
    assert "by ssim/model, best: a/</script>" in page.text
    assert "b; worst: c, 7 Last validation: raw" in page.text  # below its picture, before what comes next
    assert 'alt="pictures of the evaluation step-00000200-ema-extremes"' in html
    assert len(page.tags) == before + 3  # a frame, a picture, a note: the id has become text


@pytest.mark.parametrize("extremes", [None, [1], {}, {"metric": 3, "best": "x", "worst": {"a": 1}}])
def test_extremes_of_another_form_do_no_harm(run, extremes):
    told(run, extremes)
    _, page = told(run, {"metric": "m", "best": ["a"]}, picture=False)
    (run / "evaluation" / "step-00000200-ema-extremes.png").write_bytes(b"broken")
    _, page = told(run, {"metric": "m", "best": ["a"]}, picture=False)
    assert "evaluation: step-00000200-ema-extremes.png not readable" in page.text
    (run / "evaluation" / "step-00000200-ema-extremes.png").unlink()
    _, page = told(run, {"metric": "m", "best": ["a"]}, picture=False)
    assert "extremes" not in page.text


def test_foreign_values_in_known_lines_do_no_harm(tmp_path):
    lines = [
        {"kind": "start", "step": 0, "steps": None, "time": 3}, {"kind": "start", "step": 5},
        {"kind": "validation", "step": 1}, {"kind": "validation", "step": 2, "metrics": [1], "weights": {"a": 1}},
        {"kind": "validation", "step": 3, "metrics": {"psnr": "inf", "x/y/z": 1, "": 2, "/": 3}, "weights": None},
        {"kind": "replaced", "step": 3, "ids": "abc"}, {"kind": "skipped", "step": 3}, {"kind": "picture", "step": 3},
        {"kind": "speed", "step": 4, "memory": "nan", "elapsed": "inf", "data_wait": "nan"},
        {"kind": "step", "step": 4, "loss": "nan", "replaced": {"a": 1}}, {"kind": "end", "step": -5, "status": ""},
    ]  # fmt: skip
    (tmp_path / FILE).write_text("\n".join(map(json.dumps, lines)))
    page_of(tmp_path)


def test_status(tmp_path):
    log = new_log(tmp_path)
    log.step(1, {"loss": 1.0})
    assert f"{tmp_path.name} running" in page_of(tmp_path)[1].text
    stamp = (tmp_path / FILE).stat().st_mtime - ALIVE - 60
    os.utime(tmp_path / FILE, (stamp, stamp))
    assert f"{tmp_path.name} broken off" in page_of(tmp_path)[1].text
    log.close("failed")
    assert f"{tmp_path.name} failed" in page_of(tmp_path)[1].text


def test_the_page_stays_of_a_modest_size(tmp_path):
    log = new_log(tmp_path, steps=100_000)
    for step in range(1, 61):
        log.picture(step, f"p{step % 3}", torch.randint(0, 256, (3, 256, 640), dtype=torch.uint8))
    path = write_report(tmp_path)
    assert path.stat().st_size < 8e6
    page = Page(path.read_text(encoding="utf-8"))
    steps = [int(attrs["data-step"]) for tag, attrs in page.tags if tag == "img"]
    assert {1, 2, 3, 58, 59, 60} <= set(steps)
    assert len(steps) <= 40
    assert "13 of 20 pictures" in page.text


def test_no_directory_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no such run directory"):
        write_report(tmp_path / "nothing")


def test_baselines_are_what_never_changes():
    first = {"psnr/model": 1.0, "psnr/stitch": 5.0, "ssim/stitch": 0.5, "distance": 2.0}
    assert unchanging([first, first | {"psnr/model": 2.0}]) == {"stitch"}
    assert unchanging([first]) == frozenset()


def test_models_are_compared_with_the_strongest_baseline():
    metrics = {
        "lpips/model": 0.2,
        "psnr/model": 22.5,
        "psnr/stitch": 20.0,
        "psnr/mean": 13.0,
        "lpips/stitch": 0.25,
        "free": 1.5,
    }
    baselines = frozenset({"stitch", "mean"})
    grid = {"psnr": {"model": 22.5, "stitch": 20.0, "mean": 13.0}}
    assert reference(grid, baselines) == "stitch"
    text = Page(metrics_table(metrics, baselines)).text
    assert "psnr ↑ 22.50 +2.50 20.00 13.00" in text
    assert "lpips ↓ 0.2000 −0.0500 0.2500" in text
    assert "free 1.500" in text
    assert "difference to stitch" in text
    assert metrics_table(metrics, baselines).count('class="better"') == 2


def test_the_best_value_so_far_is_kept_with_its_step():
    lines = [
        {"kind": "validation", "step": s, "metrics": {"psnr": p, "loss": p, "odd": p}}
        for s, p in ((1, 3.0), (2, 5.0), (3, 4.0))
    ]
    assert best_so_far(lines) == {"psnr": (5.0, 2), "loss": (3.0, 1)}


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("ws_psnr/1-step", True),
        ("ssim", True),
        ("mae/x", False),
        ("abs_rel", False),
        ("lpips", False),
        ("stitch_distance", None),
    ],
)
def test_which_way_is_better(metric, better):
    assert higher_is_better(metric) is better
