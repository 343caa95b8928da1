"""What is written where, and that foreign text steers nothing."""

import json

import pytest

from fleetvisor.cli.output import Output, cell, clean


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("boiler 7", "boiler 7"),
        ("caf\u00e9 \u2603", "caf\u00e9 \u2603"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\rc\0", r"a\nb\rc\x00"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_characters_that_could_steer_a_terminal_are_written_as_escapes(text, shown):
    assert clean(text) == shown


def test_a_cell_reads_no_markup():
    assert cell("[red]x[/red]").plain == "[red]x[/red]"


def test_a_table_shows_foreign_text_harmlessly(capsys):
    Output().table(("name",), [("[bold]\x1b]0;owned\x07",)])
    out, err = capsys.readouterr()
    assert "[bold]\\x1b]0;owned\\x07" in out
    assert "\x1b" not in out
    assert err == ""


def test_a_row_stays_on_its_line_when_nobody_watches(capsys):
    row = ("x" * 64, "UV" + "0" * 32, "pending", "y" * 64, "KA" + "0" * 32)
    Output().table(("a", "b", "c", "d", "e"), [row])
    assert capsys.readouterr().out.splitlines()[-1].split() == list(row)


def test_a_record_is_one_json_document_for_machines(capsys):
    Output(json=True).record(b'{"b":{"c":1},"a":null}')
    assert json.loads(capsys.readouterr().out) == {"b": {"c": 1}, "a": None}


def test_a_record_is_dotted_fields_for_eyes_without_the_hidden_ones(capsys):
    Output().record({"app": {"target_sid": None}, "links": {"self": "u"}, "layers": [{"size": 1}]}, hidden=("links",))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["app.target_sid", "-"], ["layers.1.size", "1"]]


def test_a_line_is_one_compact_object(capsys):
    Output(json=True).line(b'{ "a" : [ 1, 2 ] }')
    assert capsys.readouterr().out == '{"a":[1,2]}\n'


def test_notes_go_to_stderr_and_quiet_silences_them_but_not_warnings(capsys):
    Output().note("hello")
    assert capsys.readouterr() == ("", "hello\n")
    out = Output(quiet=True)
    out.note("hello")
    out.warn("careful")
    assert capsys.readouterr() == ("", "Warning: careful\n")


def test_a_problem_is_text_or_one_json_object_on_stderr(capsys):
    Output().problem("It broke [here].", "Mend it.")
    assert capsys.readouterr() == ("", "Error: It broke [here].\nMend it.\n")
    Output(json=True).problem("It broke.", None, code=20404)
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {"error": "It broke.", "hint": None, "code": 20404}


def test_no_color_is_honoured_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Output().warn("careful")
    assert "\x1b[33m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    Output().warn("careful")
    assert "\x1b[33m" not in capsys.readouterr().err


def test_on_a_narrow_terminal_the_terminal_wraps_and_nothing_is_cut(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    sid = "UV" + "0" * 32
    Output().table(("name", "sid", "target"), [("boiler in the cellar", sid, "KA" + "1" * 32)])
    row = capsys.readouterr().out.splitlines()[-1]
    assert sid in row
    assert "KA" + "1" * 32 in row
