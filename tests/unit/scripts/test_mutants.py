"""The mutation campaign finds what a hollow test leaves alive, and its list names what is there."""

import subprocess
import sys
from pathlib import Path

import pytest
from scripts.mutants import LIST, ROOT, Score, listed
from scripts.mutations import labels, mutants

SOURCE = '''"""Two small rules."""

LIMIT = 3


def fits(count: int) -> bool:
    return count <= LIMIT


def halvings(count: int) -> int:
    found = 0
    while count > 1:
        count //= 2
        found += 1
    return found
'''
HOLLOW = """
from small import fits, halvings


def test_nothing_much():
    assert fits(1)
    assert halvings(0) == 0
"""
THOROUGH = """
from small import fits, halvings


def test_a_limit_is_just_reached():
    assert [fits(count) for count in (2, 3, 4)] == [True, True, False]


def test_a_number_is_halved_until_it_is_one():
    assert [halvings(count) for count in (0, 1, 2, 9)] == [0, 0, 1, 3]
"""
BOUND = "fits: return count <= LIMIT -> return count < LIMIT"
GONE = "fits: gone -> away"
LISTED = """
[hollow]
source = "{folder}/small.py"
tests = ["{folder}/test_hollow.py"]
[thorough]
source = "{folder}/small.py"
tests = ["{folder}/test_thorough.py"]
[[thorough.explained]]
reason = "one is killed, the other is no mutant"
mutants = ["{bound}", "{gone}"]
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a campaign prints of a small module with hollow tests, and of the same with thorough ones."""
    folder = tmp_path_factory.mktemp("campaign")
    for name, text in (("small", SOURCE), ("test_hollow", HOLLOW), ("test_thorough", THOROUGH)):
        (folder / f"{name}.py").write_text(text)
    (folder / "list.toml").write_text(LISTED.format(folder=folder, bound=BOUND, gone=GONE))
    command = [sys.executable, "-m", "scripts.mutants", "--list", str(folder / "list.toml")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    hollow, _, thorough = ended.stdout.partition("thorough:")
    return {"hollow": hollow, "thorough": thorough}


@pytest.mark.slow
def test_a_hollow_test_leaves_survivors(printed: dict[str, str]) -> None:
    for label in (BOUND, "module: LIMIT = 3 -> LIMIT = 4", "halvings: found += 1 -> pass"):
        assert label in printed["hollow"]
    assert "fits: return count <= LIMIT -> return None" not in printed["hollow"]


@pytest.mark.slow
def test_a_thorough_test_kills_all_also_what_never_ends(printed: dict[str, str], tmp_path: Path) -> None:
    assert "halvings: count //= 2 -> pass" in labels_of(tmp_path)
    assert "100.0 % killed" in printed["thorough"]
    assert "survived:" not in printed["thorough"]


@pytest.mark.slow
def test_an_explanation_of_what_is_killed_or_no_mutant_is_told(printed: dict[str, str]) -> None:
    told = [line.partition("none: ")[2] for line in printed["thorough"].splitlines() if "explained, but" in line]
    assert told == sorted([BOUND, GONE])


@pytest.mark.parametrize(
    ("killed", "survivors", "stale", "holds"),
    [(90, 10, [], True), (89, 11, [], False), (100, 0, [BOUND], False)],
)
def test_a_score_holds_from_90_percent_on_and_without_stale_explanations(
    killed: int, survivors: int, stale: list[str], holds: bool
) -> None:
    assert Score(total=100, killed=killed, survivors=[GONE] * survivors, stale=stale).holds is holds


def labels_of(folder: Path, text: str = SOURCE) -> set[str]:
    (folder / "some.py").write_text(text)
    found = [mutant.label for mutant in mutants(folder / "some.py")]
    assert len(set(found)) == len(found)
    return set(found)


def test_a_condition_is_turned_off_and_on_and_loses_each_part(tmp_path: Path) -> None:
    found = labels_of(tmp_path, "def f(a, b):\n    if a and b:\n        return 1\n")
    assert {f"f: a and b -> {text}" for text in ("True", "False", "a or b", "a", "b")} <= found


def test_prose_annotations_and_docstrings_are_left_alone(tmp_path: Path) -> None:
    text = '"""A word."""\n\n\ndef f(a: "Literal[1]") -> int:\n    """Say 1."""\n    raise ValueError("one, or two of them")\n'
    assert labels_of(tmp_path, text) == {"f: raise ValueError('one, or two of them') -> pass"}


@pytest.mark.parametrize("name", listed())
def test_the_modules_of_the_list_and_their_tests_are_there(name: str) -> None:
    module = listed()[name]
    for path in (module.source, *module.tests):
        assert (ROOT / path).is_file(), f"{LIST.name} names {path}, which is not there: write where it is now"


@pytest.mark.slow
@pytest.mark.parametrize("name", listed())
def test_what_is_explained_is_a_mutant(name: str) -> None:
    module = listed()[name]
    stale = set(module.reasons) - labels(module.path) if module.reasons else set()
    assert not stale, f"{LIST.name} explains of {name} what is no mutant any more: {sorted(stale)}"
