"""Exit statuses and error messages, without a server."""

import json
import os
import subprocess
import sys

import pytest

from fleetvisor import __version__
from fleetvisor.cli.main import run
from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.resources import Client

pytestmark = pytest.mark.slow

NOBODY = {
    "FLEETVISOR_URL": "https://127.0.0.1:9",
    "FLEETVISOR_ACCOUNT_SID": "AC" + "0" * 32,
    "FLEETVISOR_AUTH_TOKEN": "token",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("FLEETVISOR_URL", "FLEETVISOR_ACCOUNT_SID", "FLEETVISOR_AUTH_TOKEN", "FLEETVISOR_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def somebody(monkeypatch):
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)


def test_the_version_is_told_in_three_ways(capsys):
    assert run(["version"]) == 0
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n" * 2
    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": __version__}


@pytest.mark.parametrize(
    "line",
    [
        "devices lst",
        "devices show",
        "devices list --nonsense",
        "devices create --count many",
        "devices create --count 0",
        "devices create x --count 2 --sid UV0",
        "devices update boiler",
        "configs set key",
        "configs set key value --file f",
        "secrets set key value",
        "apps bundle missing.elf out.zip",
        "simulate",
        "agent run --url http://h --sid UV0 --token-file f --state s",
        "devices list",
    ],
)
def test_a_wrong_command_line_is_status_2_and_nothing_on_stdout(line, capsys):
    assert run(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")


def test_a_usage_error_names_the_help_of_its_command(capsys):
    run(["devices", "create", "--count", "many"])
    assert "See: fleetvisor devices create --help" in capsys.readouterr().err


def test_a_secrets_value_on_the_command_line_is_refused_with_the_ways_there_are(capsys):
    assert run(["secrets", "set", "key", "hunter2"]) == 2
    err = capsys.readouterr().err
    assert "--file" in err
    assert "hunter2" not in err


def test_a_group_alone_shows_its_help_and_no_error_without_words(capsys):
    for line in ("", "rollouts"):
        assert run(line.split()) == 2
        out, err = capsys.readouterr()
        assert "Usage: fleetvisor" in out
        assert err == ""


PROGRAM = f"{sys.executable} -m fleetvisor.cli.main"


def shell(line, **environment):
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("into", "says"), [(">/dev/full", "Writing failed: No space left"), (">&-", "Writing failed: Bad file descriptor")]
)
@pytest.mark.parametrize("options", ["", "--json"])
def test_what_cannot_be_written_is_an_error_in_words(into, says, options):
    status, _, err = shell(f"{PROGRAM} version {options} {into}")
    assert status == 1
    assert says in err
    assert len(err.splitlines()) == 1


def test_whoever_stops_listening_hears_no_complaint():
    status, _, err = shell(f"{PROGRAM} --help | true; echo ${{PIPESTATUS[0]}}")
    assert (status, err) == (0, "")


@pytest.mark.usefixtures("somebody")
def test_a_listener_who_leaves_a_swarm_hears_no_complaint(monkeypatch, capsys):
    def leave(self, ref):
        raise ExceptionGroup("tasks", [ExceptionGroup("more", [BrokenPipeError(32, "Broken pipe")])])

    monkeypatch.setattr(Client, "device", leave)  # only what the command makes of the failure is under test
    assert run(["devices", "show", "x"]) == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_characters_that_stdouts_encoding_lacks_are_escaped(options, tmp_path):
    """A terminal in Latin-1 once ended each list that held another name with "An argument is not valid UTF-8"."""
    words = ["env", "--data", str(tmp_path), *options]
    server = {
        "base_url": "https://b\u00fccher.example", "account_sid": "AC\U0001f642", "auth_token": "t", "ca_file": None,
        "local_url": "https://127.0.0.1:1",
    }  # fmt: skip
    (tmp_path / "credentials.json").write_text(json.dumps(server))
    status, out, err = shell(f"{PROGRAM} {' '.join(words)}", PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "")
    assert "\\U0001f642" in out if not options else json.loads(out)["FLEETVISOR_ACCOUNT_SID"] == "AC\U0001f642"


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(
    "line",
    [
        ["deploy", "app", "-l", " "],
        ["deploy", "app", "kiln", "-l", ""],
        ["devices", "label", "a=b", "-l", ""],
        ["devices", "label", "a=b", "--device", "kiln", "-l", ""],
        ["rollouts", "create", "app", "-l", ""],
    ],
)
def test_an_empty_selector_changes_nothing_where_the_api_would_take_it_for_every_device(line, capsys):
    assert run(line) == 2
    assert "Error: " in capsys.readouterr().err


@pytest.mark.usefixtures("somebody")
def test_a_label_without_a_value_is_refused_before_anything_is_asked(capsys):
    assert run(["devices", "label", "site", "--device", "kiln"]) == 2
    assert "key- (to remove it)" in capsys.readouterr().err


def test_help_wraps_at_the_terminals_edge_alone(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    run(["rollouts", "create", "--help"])
    assert "kept and shown, and the exit status is 1." in capsys.readouterr().out


def test_errors_are_one_json_object_on_stderr_when_asked_for_wherever_it_stands(capsys):
    for line in ("--json devices lst", "devices lst --json", "devices show --json"):
        assert run(line.split()) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert json.loads(err)["exit_code"] == 2


def test_a_data_directory_without_a_server_is_status_7(tmp_path, capsys):
    assert run(["devices", "list", "--data", str(tmp_path)]) == 7
    assert f"fleetvisor serve --data {tmp_path}" in capsys.readouterr().err


@pytest.mark.usefixtures("somebody")
def test_a_server_that_cannot_be_reached_is_status_7(capsys):
    assert run(["devices", "list"]) == 7
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 1), (401, 4), (403, 4), (404, 3), (405, 1), (409, 5), (412, 5), (413, 1), (429, 6), (500, 7), (503, 7),
        (302, 7),
    ],
)  # fmt: skip
def test_each_http_status_has_its_exit_status(status, code, monkeypatch, capsys):
    def refuse(self, ref):
        raise ApiProblem(20000 + status, status, "Because.", "Do this.")

    monkeypatch.setattr(Client, "device", refuse)  # only what the command makes of the failure is under test
    assert run(["devices", "show", "x", "--json"]) == code
    told = json.loads(capsys.readouterr().err)
    assert told == {
        "error": "Because.", "hint": "Do this.", "exit_code": code, "code": 20000 + status, "status": status
    }  # fmt: skip


@pytest.mark.usefixtures("somebody")
def test_ctrl_c_is_status_130(monkeypatch):
    def interrupt(self, ref):
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "device", interrupt)  # only what the command makes of the failure is under test
    assert run(["devices", "show", "x"]) == 130


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize("loss", [Unreachable("gone", "look"), ApiProblem(20409, 409, "exists", "other name")])
def test_devices_that_were_registered_before_a_failure_are_shown_and_the_status_is_1(loss, monkeypatch, capsys):
    made = []

    def create(self, name=None, sid=None, hardware_class=None, labels=(), account_secrets=None):
        if len(made) == 2:
            raise loss
        made.append(name)
        return answer(name)

    def answer(name):
        from fleetvisor.client.resources import Device, read

        body = {"sid": "UV1", "unique_name": name, "app": {}, "logging": {}, "device_token": "fvd_x"}
        return read(json.dumps(body).encode(), Device)

    monkeypatch.setattr(Client, "create_device", create)  # only what the command makes of the failure is under test
    assert run(["devices", "create", "kiln", "--count", "5", "--json"]) == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["unique_name"] for line in out.splitlines()] == ["kiln-1", "kiln-2"]
    assert "2 of 5 devices were registered" in json.loads(err)["error"]


@pytest.mark.usefixtures("somebody")
def test_when_not_one_was_registered_the_status_is_the_problems_own(monkeypatch):
    def create(self, name=None, sid=None, hardware_class=None, labels=(), account_secrets=None):
        raise ApiProblem(20409, 409, "exists", "other name")

    monkeypatch.setattr(Client, "create_device", create)  # only what the command makes of the failure is under test
    assert run(["devices", "create", "kiln"]) == 5


@pytest.mark.usefixtures("somebody")
def test_a_fault_of_the_program_itself_is_not_hidden(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(Client, "device", fail)  # only what the command makes of the failure is under test
    with pytest.raises(ZeroDivisionError):
        run(["devices", "show", "x"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_each_shell_is_shown(shell):
    shown = subprocess.run(
        [sys.executable, "-m", "fleetvisor.cli.main", "--show-completion", shell], capture_output=True, text=True
    )
    assert shown.returncode == 0
    assert "_FLEETVISOR_COMPLETE" in shown.stdout


@pytest.mark.parametrize(
    ("words", "count", "found"),
    [
        ("fleetvisor dev", 1, "devices"),
        ("fleetvisor devices cr", 2, "create"),
        ("fleetvisor apps list --js", 3, "--json"),
    ],
)
def test_completion_completes_commands_and_options(words, count, found):
    environment = os.environ | {
        "_FLEETVISOR_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(count),
    }
    shown = subprocess.run(
        [sys.executable, "-m", "fleetvisor.cli.main"], capture_output=True, text=True, env=environment
    )
    assert found in shown.stdout.split()


def test_installing_completion_writes_only_into_the_home(tmp_path):
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "fleetvisor.cli.main", "--install-completion", "bash"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "_FLEETVISOR_COMPLETE" in (tmp_path / ".bash_completions/fleetvisor.sh").read_text()
