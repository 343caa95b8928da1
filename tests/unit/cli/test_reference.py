"""The page of the command line says what the program says."""

from scripts.cli_reference import PAGE, render


def test_the_page_is_what_the_commands_say():
    assert PAGE.read_text() == render(), "run: .venv/bin/python -m scripts.cli_reference"


def test_every_parameter_is_explained():
    """A row that ends in an empty cell is an option or argument without help."""
    empty = [line for line in render().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert not empty
