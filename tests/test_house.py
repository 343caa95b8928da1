"""The layout keeps itself: sizes, docstrings, twins, documents. A failure says what to do about it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "fleetvisor"
LINES_MAX = 400
FUNCTION_LINES_MAX = 60
MODULES = sorted(path for path in SOURCE.rglob("*.py") if not path.name.endswith("_pb2.py"))
LONGER = {("server/build.py", "build"): "the one list of everything that is built; in pieces it could not be read down"}
#: Patches of private names of ours that are left; each says why. It only shrinks.
PRIVATE_PATCHES_MAX = 5
NEEDS_TWIN = {"rules.py", "service.py"}


def named(paths):
    return [pytest.param(path, id=str(path.relative_to(SOURCE))) for path in paths]


def test_the_source_is_there():
    """An empty list of modules would let every test below pass."""
    assert len(MODULES) > 60


@pytest.mark.parametrize("path", named(MODULES))
def test_a_module_says_what_it_is_and_stays_small(path):
    """Every module has a docstring and at most 400 lines, every function at most 60."""
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path}: begin the module with what it is and what it deliberately is not"
    assert text.count("\n") <= LINES_MAX, f"{path}: split it by idea; {LINES_MAX} lines are the most"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if (str(path.relative_to(SOURCE)), node.name) in LONGER:
                continue
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            assert size <= FUNCTION_LINES_MAX, f"{path}:{node.lineno} {node.name}: {size} lines; name its parts"


def test_no_file_of_tests_is_longer_than_one_of_the_source():
    """What is too long to read is split by subject, tests too."""
    files = [path for folder in ("tests", "bench", "scripts") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    long = [str(path.relative_to(ROOT)) for path in files if path.read_text().count("\n") > LINES_MAX]
    assert not long, f"split them by subject; {LINES_MAX} lines are the most: {long}"


@pytest.mark.parametrize(
    "path", named(path for path in MODULES if path.name in NEEDS_TWIN or path.parent.name == "protocol")
)
def test_rules_codecs_and_services_have_a_twin_test(path):
    """tests/unit mirrors src: a module of decisions without tests of its own is not finished."""
    if path.name == "__init__.py":
        return
    relative = path.relative_to(SOURCE)
    twin = ROOT / "tests" / "unit" / relative.parent / f"test_{relative.parent.name}_{relative.name}"
    plain = ROOT / "tests" / "unit" / relative.parent / f"test_{relative.name}"
    assert twin.exists() or plain.exists(), f"write {plain.relative_to(ROOT)}"


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/explanation/walks.md"])
def test_paths_in_the_plan_of_the_house_exist(name):
    """A path in back quotes that names a file or folder of the project must be there."""
    text = (ROOT / name).read_text()
    stale = []
    for quoted in re.findall(r"`([\w./-]+(?:\.py|\.sql|\.md|\.proto|/))`", text):
        if not any((base / quoted).exists() for base in (ROOT, SOURCE)):
            stale.append(quoted)
    assert not stale, f"{name} names what is not there: {stale}"


def test_every_problem_is_documented():
    """docs/reference/errors.md lists each code of ground/errors."""
    from fleetvisor.ground import errors

    text = (ROOT / "docs/reference/errors.md").read_text()
    codes = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Problem)}
    missing = [code for code in sorted(codes) if str(code) not in text]
    assert not missing, f"document in docs/reference/errors.md: {missing}"


def test_generated_pages_are_current():
    """make docs would change nothing."""
    from scripts import generate_docs

    stale = [str(path) for path, text in generate_docs.pages().items() if not path.exists() or path.read_text() != text]
    assert not stale, f"run make docs: {stale}"


def test_no_file_names_a_registry_host_or_a_path_of_one_machine():
    """Lock files and documents name packages, never the hosts they come from."""
    hosts = re.compile(r"https?://[a-z0-9.-]*(pypi|pythonhosted|npmjs|debian)[a-z0-9.-]*")
    found = []
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if (
            not path.is_file()
            or parts[0] == ".git"
            or parts[0].startswith(".venv")
            or "static" in parts
            or path == Path(__file__)
        ):
            continue
        if path.suffix in {
            ".md",
            ".toml",
            ".lock",
            ".yml",
            ".yaml",
            ".py",
            ".txt",
            ".json",
            ".cjs",
            "",
        } and hosts.search(path.read_text(errors="replace")):
            found.append(str(path.relative_to(ROOT)))
    assert not found, f"these name a package registry's host: {found}"


def test_a_docstring_begins_with_the_verb_of_the_field():
    """A function returns, it does not give or tell; what speaks to a person, a server or a listener may tell."""
    spoken = {"cli", "bus/bus.py", "agent/core.py", "db/postgres_statements.py"}
    wrong = [
        f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"
        for path in MODULES
        if not str(path.relative_to(SOURCE)).startswith(tuple(spoken))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (ast.get_docstring(node) or "").partition(" ")[0] in {"Give", "Gives", "Tell", "Tells"}
    ]
    assert not wrong, f"begin with Return, Raise, Store, …: {wrong}"


#: Words of hawkBit's DDI: its name, its fields, its paths and its schemes.
WORDS_OF_DDI = re.compile(
    r"\bddi|_ddi|\bDDI|hawkbit|execution|deploymentBase|cancelAction|confirmationBase|installedBase|configData"
    r"|softwaremodules|/controller/|controllerId\b|stopId|TargetToken|GatewayToken ",
    re.IGNORECASE,
)


def words_of_ddi(text):
    """Return the words of the protocol in a text; the API's own ``ControllerId`` is none."""
    return [found for found in WORDS_OF_DDI.findall(text) if found != "ControllerId"]


def test_the_domain_has_no_word_of_a_device_protocol():
    """docs/adr/0010-device-protocols.md: the edge maps them to those of protocol/lifecycle."""
    assert {"execution", "/controller/"} <= set(words_of_ddi((SOURCE / "protocol/ddi.py").read_text())) | {
        *words_of_ddi((SOURCE / "channel/ddi/app.py").read_text())
    }
    wrong = [
        f"{path.relative_to(SOURCE)}:{number}: {word}"
        for path in MODULES
        if path.relative_to(SOURCE).parts[0] == "features"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for word in words_of_ddi(line)
    ]
    assert not wrong, f"map it at the edge of its protocol: {wrong}"


def patches(path):
    """Return the calls of a file that patch an attribute: where, the text, and whether a comment stands beside."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            beside = lines[node.lineno - 1 : node.end_lineno]
            above = lines[node.lineno - 2].strip()
            reason = above.startswith("# ") or any("  # " in line for line in beside)
            yield node.lineno, ast.unparse(node), reason


def test_a_patch_carries_its_reason():
    """A test reaches the program by a port, a setting or a public argument. Where it cannot, it says why."""
    found = [(path, *patch) for path in sorted((ROOT / "tests").rglob("*.py")) for patch in patches(path)]
    assert len(found) > 30
    bare = [f"{path.relative_to(ROOT)}:{line}: {text}" for path, line, text, reason in found if not reason]
    assert bare == [], "use a public seam, or say in a comment on the line, or above it, why there is none"
    private = [text for _, _, text, _ in found if re.search(r"[.'\"]_[a-z]", text, re.IGNORECASE)]
    assert len(private) <= PRIVATE_PATCHES_MAX, f"give what is patched a public seam: {private}"
