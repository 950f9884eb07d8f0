import errno
import io
import math
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from salticid.engine.figures import duration, memory, number
from salticid.engine.progress import Progress, Smoothed, fitting


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def plain(steps, **options):
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=40, force_terminal=False, highlight=False)  # narrow: lines must not wrap
    return Progress(steps, console=console, clock=clock, **options), out, clock


def terminal(steps, width=100, **options):
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=width, force_terminal=True, legacy_windows=False, color_system=None)
    return Progress(steps, console=console, clock=clock, **options), out, clock


SPEED = {"samples_per_s": 45.123, "data_wait": 0.012, "memory": 1.2e9, "elapsed": 3.0}


def test_plain_lines_are_exactly_these():
    progress, out, clock = plain(1000)
    progress.values(1, {"loss": 0.5})
    progress.speed(1, SPEED)
    clock.now += 99
    progress.values(100, {"loss": 0.5})
    progress.speed(100, SPEED)
    progress.event("validation", 100, {"weights": "ema", "metrics": {"psnr": 21.345, "ssim": 0.7}})
    progress.event("checkpoint", 100, {"file": "x"})
    progress.event("checkpoint_rejected", 100, {"message": "step 90: truncated"})
    assert out.getvalue().splitlines() == [
        "step 1/1000  loss 0.5000  45.1 samples/s  data 1 %  1.2 GB",
        "step 100/1000  loss 0.5000  45.1 samples/s  data 1 %  1.2 GB  eta 15:00",
        "validation  step 100  ema  psnr 21.34  ssim 0.7000",
        "checkpoint rejected  step 100  step 90: truncated",
    ]


def test_nothing_is_printed_between_lines_off_the_terminal():
    progress, out, _ = plain(1000)
    for step in range(1, 50):
        progress.tick(step)
    progress.close()
    assert out.getvalue() == ""


def test_eta_counts_only_the_steps_of_this_process():
    progress, _, clock = plain(1000)
    assert progress.eta() is None
    progress.tick(901)  # resumed at 900; the first step, with its warm-up, tells nothing
    assert progress.eta() is None
    for step in range(902, 911):
        clock.now += 2.0
        progress.tick(step)
    assert progress.eta() == pytest.approx(2.0 * 90)
    clock.now += 30.0  # a validation
    assert progress.eta() == pytest.approx(48 / 9 * 90)


def test_headline_metric_comes_first_and_long_lists_are_cut():
    progress, out, _ = plain(10, headline="m7")
    progress.event("validation", 5, {"weights": "raw", "metrics": {f"m{i}": float(i) for i in range(20)}})
    told = "m7 7.000  m0 0  m1 1.000  m2 2.000  m3 3.000  m4 4.000 and 14 more"
    assert out.getvalue() == f"validation  step 5  raw  {told}\n"


def test_a_metric_is_told_beside_its_baselines():
    metrics = {"psnr/1-step": 21.0, "ssim/1-step": 0.7, "psnr/stitch": 20.0, "ssim/stitch": 0.8, "distance": 2.5}
    told = {None: "psnr/1-step 21.00  psnr/stitch 20.00", "ssim/1-step": "ssim/1-step 0.7000  ssim/stitch 0.8000"}
    for headline, words in told.items():
        progress, out, _ = plain(10, headline=headline)
        progress.event("validation", 5, {"weights": "raw", "metrics": metrics})
        assert out.getvalue() == f"validation  step 5  raw  {words}\n"
    progress.event("validation", 6, {"weights": "raw", "metrics": {}})


def test_foreign_text_cannot_play_with_the_terminal():
    progress, out, _ = plain(10)
    progress.event("replaced", 5, {"ids": ["[red]a[/red]\x1b[31m\r\udcff", "b"]})
    assert out.getvalue() == "replaced  step 5  ids [red]a[/red]\\x1b[31m\\r\\udcff, b\n"


@pytest.mark.parametrize("width", [*range(2, 40), 60, 79, 80, 81, 100, 120, 200])
def test_the_bar_is_one_line_of_any_width(width):
    progress, _, clock = terminal(200_000, width)
    progress.tick(110_000)
    clock.now += 10
    progress.event("validation", 110_000, {"weights": "ema", "metrics": {"ws_psnr": 23.4567}})
    progress.values(111_000, {"loss": 0.01234567})
    progress.speed(111_000, SPEED)
    progress.close()
    console = Console(file=io.StringIO(), width=width, legacy_windows=False, color_system=None)
    console.print(progress)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 1
    assert len(lines[0]) <= width
    if width >= 15:
        assert "111000/200000"[: width - 2] in lines[0]
    if width >= 120:
        assert all(word in lines[0] for word in ("loss 0.01235", "45.1 samples/s", "1.2 GB", "eta", "ws_psnr 23.46"))


def test_the_most_wanted_fields_stay():
    fields = {"loss": "loss 1", "rate": "rate 1", "eta": "eta 1", "metric": ""}
    assert fitting(fields, 100) == ["loss 1", "rate 1", "eta 1"]
    assert fitting(fields, 16) == ["loss 1", "eta 1"]
    assert fitting(fields, 3) == []


def test_the_terminal_is_given_back_and_no_thread_is_started():
    before = threading.active_count()
    progress, out, clock = terminal(10)
    for step in range(1, 11):
        clock.now += 1
        progress.values(step, {"loss": 1.0})
        assert threading.active_count() == before
    progress.event("note", 10, {"metric": "psnr", "value": 3.0})
    progress.close()
    assert out.getvalue().endswith("\x1b[?25h")
    assert "10/10  loss 1.000  eta 0:00" in out.getvalue()
    assert "note  step 10  metric psnr  value 3.000" in out.getvalue()


def test_the_bar_is_redrawn_ten_times_a_second_at_most():
    progress, out, clock = terminal(100_000)
    for step in range(1, 1001):
        clock.now += 0.001
        progress.tick(step)
    assert 8 <= out.getvalue().count("/100000") <= 12
    progress.close()


def test_quiet_is_quiet():
    for progress, out, _ in (plain(10, quiet=True), terminal(10, quiet=True)):
        progress.values(1, {"loss": 1.0})
        progress.speed(1, SPEED)
        progress.event("note", 1, {})
        progress.close()
        assert out.getvalue() == ""


PIPED = """
import sys
from salticid.engine.progress import Progress
progress = Progress(10)
for step in range(1, 2000):
    progress.speed(step, {"samples_per_s": 1.0})
progress.close()
print("to nobody")
sys.stderr.write("went on to the end")
"""


def test_a_reader_that_goes_away_does_not_end_the_run():
    process = subprocess.Popen([sys.executable, "-c", PIPED], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"step 1/10  1.00 samples/s\n"
    process.stdout.close()
    assert process.communicate()[1] == b"went on to the end"
    assert process.returncode == 0


def test_a_lost_terminal_does_not_end_the_run():
    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(errno.EIO, "gone")

    progress = Progress(10, console=Console(file=Gone(), force_terminal=True))
    progress.tick(1)
    progress.event("note", 1, {})
    progress.close()


def test_the_smoothed_loss_has_no_bias_and_shows_what_is_not_finite():
    loss = Smoothed()
    for _ in range(5):
        loss.add(2.0)
        assert loss.value == pytest.approx(2.0)
    loss.add(math.nan)
    assert math.isnan(loss.value)
    loss.add(2.0)
    assert loss.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.52631, "0.5263"), (45.1, "45.10"), (1e-4, "0.0001000"), (1.234e-5, "1.23e-05"), (123456.7, "123457"),
     (-0.5, "-0.5000"), (0.0, "0"), (3, "3"), (math.nan, "nan"), (-math.inf, "-inf"), (1e9, "1.00e+09"),
     ("a\x00", "a\\x00"), (True, "True"), (None, "None")],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


def test_times_and_sizes():
    assert [duration(s) for s in (0.4, 192, 3723, 2 * 86400 + 3 * 3600 + 240)] == [
        "0:00",
        "3:12",
        "1:02:03",
        "2d 03:04",
    ]
    assert (memory(1.25e9), memory(3e6)) == ("1.2 GB", "3 MB")
