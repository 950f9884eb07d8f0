"""The command itself: quick answers, one line for a mistake, a traceback for anything else."""

import subprocess
import sys
from importlib import metadata

import pytest

from salticid import presets
from salticid.cli import COMMANDS, main
from salticid.config import KEYS


def test_help_and_mistakes_import_nothing_heavy():
    lines = [[], *([name, "--help"] for name in COMMANDS), ["tran"], ["train", "--resum"], ["train", "none.yaml"]]
    code = f"""
import sys
from salticid.cli import main
print([main(arguments) for arguments in {lines!r}], file=sys.stderr)
print({{"torch", "numpy", "jsonargparse", "rich", "PIL", "typeshed_client"}} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-2:] == [str([0] * (1 + len(COMMANDS)) + [2] * 3), "set()"], done.stderr


def test_help_names_commands_presets_and_keys(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for name in presets.names():
        assert f"{name} " in text
        assert presets.summary(name) in text
    assert all(f"  {key} " in text for key in KEYS)
    assert "--print-config" in text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"salticid {metadata.version('salticid')}\n"


def test_unexpected_errors_show_their_traceback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("salticid.commands.doctor.run", lambda rest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_debugging_shows_the_traceback_of_a_mistake(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SALTICID_DEBUG", "1")
    with pytest.raises(Exception, match="there is no such configuration file"):
        main(["train", "none.yaml"])


def test_only_the_first_rank_speaks_and_errors_tell_theirs(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["--help"]) == 0
    assert main(["tran"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("[rank 1] salticid: error: there is no command tran")


def test_a_message_cannot_play_with_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys):
    assert main(["\x1b[31mred\nline"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "\x1b" not in error


def test_a_pipe_that_nobody_reads_is_no_error():
    line = f"{sys.executable} -m salticid --help | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("rank", "shown"), [("0", ["told", "warned of x\\x1b"]), ("1", ["[rank 1] warned of x\\x1b"])])
def test_remarks_reach_the_terminal_once_and_harmlessly(monkeypatch, capsys, rank, shown):
    import logging

    from salticid import cli

    def remark(arguments):
        logging.getLogger("salticid.data").info("told")
        logging.getLogger("salticid.data").warning("warned of x\x1b")
        logging.getLogger("elsewhere").info("nothing of ours")
        return 0

    if rank == "1":
        monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(cli, "_dispatch", remark)
    for _ in range(2):
        assert main([]) == 0
        assert capsys.readouterr().err.splitlines() == shown
