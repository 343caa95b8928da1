"""Runs a mutation campaign: changes a pure module in one small way at a time, and runs its own unit tests.

``make mutants`` tries every module that ``scripts/mutants.toml`` lists, ``make mutants MODULE=guard`` one of them.
A mutant survives when no test fails. The script prints each survivor that the list does not explain. The exit code is
1 if the tests kill less than 90 % of a module's mutants, or if the list explains a mutant that was killed or is gone.

The tests of a module are collected once. Each mutant runs in a forked child with bounded memory and time. If only the
body of a function changes, the child replaces the code of that function; else it imports the module again. Hypothesis
draws the same examples in every run. Tests that take more than three seconds are not run.
"""

import argparse
import gc
import importlib
import importlib.abc
import importlib.util
import os
import resource
import select
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Annotated, Final

import grimp
import hypothesis
import msgspec
import pytest
from rich.console import Console

from scripts.mutations import Mutant, mutants

ROOT: Final = Path(__file__).resolve().parent.parent
LIST: Final = ROOT / "scripts" / "mutants.toml"
FLOOR_PERCENT: Final = 90.0
TEST_S_MAX: Final = 3.0
MEMORY_BYTES_MAX: Final = 2 << 30
WALL_S_MAX: Final = 900
IMPORT_S_MAX: Final = 15
PHASE_S_MAX: Final = 3600
SURVIVED, KILLED = 0, 200
_PYTEST: Final = (
    f"--rootdir={ROOT}",
    f"--config-file={ROOT}/pyproject.toml",
    "--hypothesis-profile=mutants",
    "-Wignore::pytest.PytestAssertRewriteWarning",  # for what was imported before the first fork
    "-o",
    "timeout=0",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:schemathesis",
    "-p",
    "no:xdist",
)


class Explained(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mutants that no test can kill, because they behave like the module, with the reason."""

    reason: Annotated[str, msgspec.Meta(min_length=10)]
    mutants: tuple[str, ...]


class Module(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A module and its own tests, by paths from the project's folder. ``within``: only these functions and classes."""

    source: str
    tests: tuple[str, ...]
    within: tuple[str, ...] = ()
    explained: tuple[Explained, ...] = ()

    @property
    def path(self) -> Path:
        return ROOT / self.source

    @property
    def name(self) -> str:
        """Return what Python calls the module: its path from the first folder that is no package."""
        parts = [self.path.stem]
        folder = self.path.parent
        while (folder / "__init__.py").exists():
            parts.append(folder.name)
            folder = folder.parent
        return ".".join(reversed(parts))

    @property
    def reasons(self) -> dict[str, str]:
        return {label: one.reason for one in self.explained for label in one.mutants}


def listed(path: Path = LIST) -> dict[str, Module]:
    """Return the modules of a list by their short names."""
    return msgspec.convert(tomllib.loads(path.read_text()), dict[str, Module])


class Score(msgspec.Struct):
    """The result of a module. ``survivors`` have no explanation; ``stale`` explanations have no survivor."""

    total: int
    killed: int
    survivors: list[str]
    stale: list[str]

    @property
    def percent(self) -> float:
        return 100 * self.killed / self.total

    @property
    def holds(self) -> bool:
        return self.percent >= FLOOR_PERCENT and not self.stale


class Result(msgspec.Struct, frozen=True):
    """Whether a mutant survived; ``place`` is its place among those of its module."""

    place: int
    survived: bool


class Learned(msgspec.Struct, frozen=True):
    """The quick tests of the unchanged module, how long they take, and what they import.

    ``called``: the functions of the module that run before the first test.
    """

    quick: tuple[str, ...]
    seconds: float
    imported: tuple[str, ...]
    called: frozenset[str]


def start(work: Callable[[], int], cpu_s: int) -> int:
    """Run ``work`` in a child, which exits with what it returns; its time and memory are bounded, and it is silent."""
    child = os.fork()
    if child:
        return child
    code = KILLED
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
        code = work()
    finally:
        os._exit(code)


def finish(child: int) -> int:
    """Wait for a child and return its exit code: negative for one that was ended, because it took too long."""
    handle = os.pidfd_open(child)
    try:
        if not select.select([handle], [], [], WALL_S_MAX)[0]:
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(handle)


Tell = Callable[[object], int]


def told_by(work: Callable[[Tell], int]) -> Iterator[bytes]:
    """Run ``work`` in a child; return the lines of JSON that the child sends."""
    read, write = os.pipe()

    def tell(value: object) -> int:
        os.write(write, msgspec.json.encode(value) + b"\n")
        return 0

    child = start(lambda: work(tell), PHASE_S_MAX)
    os.close(write)
    with open(read, "rb") as lines:  # noqa: PTH123  (a descriptor)
        yield from lines
    if finish(child):
        raise SystemExit("the tests of the module as it is fail, or cannot be collected: run them by themselves")


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, with the code of a mutant."""

    def __init__(self, module: Module, code: CodeType) -> None:
        self._module, self._code = module, code

    def find_spec(self, fullname: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if fullname != self._module.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._module.path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102  (a mutant of our own module)


class Session:
    """A plugin of pytest: ``work`` runs the tests that were collected."""

    def __init__(self, work: Callable[[list[pytest.Item]], int]) -> None:
        self._work = work
        self.code = KILLED  # a mutant is killed, too, when its tests cannot be collected

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            for node in item.listchain():  # the children's processor time is bounded instead
                node.own_markers = [mark for mark in node.own_markers if mark.name != "timeout"]
        if not session.testsfailed and session.items:
            self.code = self._work(session.items)
        return True


def collect(module: Module, work: Callable[[list[pytest.Item]], int]) -> int:
    """Collect the tests of a module and let ``work`` run them."""
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True, deadline=None, phases=phases)
    session = Session(work)
    sys.path.insert(0, str(module.path.parent))
    pytest.main([*_PYTEST, *(str(ROOT / path) for path in module.tests)], [session])
    return session.code


def passes(item: pytest.Item) -> bool:
    """Run one test; return whether it, and all before it, passed."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    return not item.session.testsfailed


def outcome(items: list[pytest.Item], order: list[str]) -> int:
    """Run tests in an order until one fails; return its place, from 1, or 0 when all pass."""
    by_id = {item.nodeid: item for item in items}
    for place, test in enumerate(order, 1):
        if test not in by_id or not passes(by_id[test]):
            return min(place, KILLED)
    return SURVIVED


class Trial:
    """The mutants of one module, tried one after the other."""

    def __init__(self, module: Module) -> None:
        self._module = module
        within = tuple(name + mark for name in module.within for mark in ".:")
        self._mutants = [one for one in mutants(module.path) if not within or one.label.startswith(within)]
        self._codes = _codes(compile(module.path.read_text(), str(module.path), "exec", dont_inherit=True))
        self._learned, self._order = Learned((), 0, (), frozenset()), list[str]()

    def results(self) -> Iterator[Result]:
        """Try each mutant; return the results as they come."""
        lines = told_by(self._try_functions)
        self._learn(next(lines))
        for line in lines:
            yield msgspec.json.decode(line, type=Result)
        for line in told_by(self._try_imports):
            yield msgspec.json.decode(line, type=Result)

    def _learn(self, line: bytes) -> None:
        self._learned = msgspec.json.decode(line, type=Learned)
        self._order = list(self._learned.quick)

    @property
    def _cpu_s(self) -> int:
        return 2 + round(3 * self._learned.seconds)

    def _survives(self, child: int) -> bool:
        """Wait for a mutant. The test that killed it runs first on the next mutant, which often resembles it."""
        code = finish(child)
        if 0 < code < KILLED:
            self._order.insert(0, self._order.pop(code - 1))
        return code == SURVIVED

    def _is_late(self, mutant: Mutant) -> bool:
        """Return whether a mutant changes only functions that run in tests, and never before."""
        return mutant.in_function and not self._learned.called & self._changed(mutant)

    def _changed(self, mutant: Mutant) -> set[str]:
        return {code.co_qualname for key, code in _codes(mutant.code).items() if self._codes.get(key) != code}

    def _try_functions(self, tell: Tell) -> int:
        """Try the mutants of functions that only tests call: replace the code of the functions."""
        path, called = str(self._module.path), set[str]()

        def watch(frame: FrameType, event: str, _argument: object) -> None:
            code = frame.f_code
            if event == "call" and code.co_filename == path and code.co_flags & CO_OPTIMIZED:  # no class's body
                called.add(code.co_qualname)

        def work(items: list[pytest.Item]) -> int:
            sys.setprofile(None)
            (line,) = told_by(lambda tell: self._time(items, frozenset(called), tell))
            self._learn(line)
            tell(self._learned)
            everything = gc.get_objects()
            functions = [one for one in everything if type(one) is FunctionType and one.__code__.co_filename == path]
            gc.freeze()  # so that garbage collection in a child copies no page
            for place, mutant in enumerate(self._mutants):
                if self._is_late(mutant):
                    child = start(lambda mutant=mutant: self._try_code(mutant, functions, items), self._cpu_s)
                    tell(Result(place, self._survives(child)))
            return 0

        sys.setprofile(watch)
        return collect(self._module, work)

    def _time(self, items: list[pytest.Item], called: frozenset[str], tell: Tell) -> int:
        """Run the tests on the module as it is, to learn which are quick."""
        seconds: dict[str, float] = {}
        for item in items:
            began = time.process_time()
            if not passes(item):
                return KILLED
            seconds[item.nodeid] = time.process_time() - began
        quick = sorted((test for test in seconds if seconds[test] <= TEST_S_MAX), key=lambda test: seconds[test])
        imported = tuple(name for name in sys.modules if name.startswith("fleetvisor."))
        return tell(Learned(tuple(quick), sum(seconds[test] for test in quick), imported, called))

    def _try_code(self, mutant: Mutant, functions: list[FunctionType], items: list[pytest.Item]) -> int:
        codes = _codes(mutant.code)
        for function in functions:
            old = function.__code__
            function.__code__ = codes.get((old.co_qualname, old.co_firstlineno), old)
        return outcome(items, self._order)

    def _try_imports(self, tell: Tell) -> int:
        """Try all other mutants: import the module again, and every module that imports it."""
        graph, own = grimp.build_graph("fleetvisor"), self._module.name
        above = {own} | (graph.find_downstream_modules(own) if own in graph.modules else set())
        for name in self._learned.imported:
            if name not in above:
                importlib.import_module(name)
        gc.freeze()
        for place, mutant in enumerate(self._mutants):
            if not self._is_late(mutant):
                child = start(lambda mutant=mutant: self._try_import(mutant), self._cpu_s + IMPORT_S_MAX)
                tell(Result(place, self._survives(child)))
        return 0

    def _try_import(self, mutant: Mutant) -> int:
        sys.meta_path.insert(0, Mutated(self._module, mutant.code))
        return collect(self._module, lambda items: outcome(items, self._order))

    def score(self) -> Score:
        """Try each mutant and return the score."""
        survived = [self._mutants[place] for place in sorted(one.place for one in self.results() if one.survived)]
        reasons = self._module.reasons
        new = [f"{self._module.source}:{one.line} {one.label}" for one in survived if one.label not in reasons]
        return Score(
            total=len(self._mutants),
            killed=len(self._mutants) - len(survived),
            survivors=new,
            stale=sorted(set(reasons) - {one.label for one in survived}),
        )


def _codes(code: CodeType) -> dict[tuple[str, int], CodeType]:
    """Return the code of all functions in another's, by name and line."""
    found: dict[tuple[str, int], CodeType] = {}
    for part in code.co_consts:
        if isinstance(part, CodeType):
            found |= {(part.co_qualname, part.co_firstlineno): part, **_codes(part)}
    return found


def main() -> int:
    """Try the modules that the arguments name; return 0 when every score holds, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m scripts.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="short names of the list; none means all")
    parser.add_argument("--list", type=Path, default=LIST, help="another list of modules")
    options = parser.parse_args()
    modules = listed(options.list)
    if unknown := set(options.modules) - set(modules):
        parser.error(f"the list has no {', '.join(sorted(unknown))}; it has {', '.join(modules)}")
    os.nice(19)
    console, broken = Console(soft_wrap=True, highlight=False), 0
    for name in options.modules or modules:
        trial = Trial(modules[name])
        score = trial.score()
        broken += not score.holds
        console.print(
            f"{name}: {score.total} mutants, {score.percent:.1f} % killed,"
            f" {score.total - score.killed - len(score.survivors)} explained, {len(score.survivors)} survived",
            markup=False,
        )
        for line in score.survivors:
            console.print(f"  survived: {line}", markup=False)
        for line in score.stale:
            console.print(f"  explained, but killed or none: {line}", markup=False)
    console.print("a score does not hold" if broken else "every score holds")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
