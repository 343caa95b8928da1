"""Command lines run to their end, each in a process of its own that starts from an interpreter with all imported.

Importing the program takes longer than most refusals. So one process imports it once and forks for every command;
what a command does to its process (umask, limits, log, event loop) is gone with it.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECONDS_MAX = 20
_PROGRAM = f"""
import encodings.idna, json, os, signal, sys, traceback  # what is not readable to another user is loaded before
import fleetvisor.cli.main, fleetvisor.client.http, fleetvisor.db.postgres, fleetvisor.db.sqlite
import fleetvisor.server.run, pydantic_settings.main

def work(arguments, environment, user, files):
    signal.alarm({SECONDS_MAX})
    for number, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.environ.update(environment)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    try:
        code = fleetvisor.cli.main.run(arguments)
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    os._exit(code)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        work(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass
class Done:
    """How a command ended; one that fails in a way it does not know ends with 99."""

    code: int
    out: str
    err: str


class Commands:
    """Runs command lines."""

    def __init__(self, process: subprocess.Popen, folder: Path):
        self._process = process
        self._folder = folder

    def __call__(self, *arguments: object, env: dict[str, str] | None = None, user: int | None = None) -> Done:
        """Run ``fleetvisor`` with these arguments to its end, as ``user`` if that is given."""
        out, err = self._folder / "out", self._folder / "err"
        for file in (out, err):
            file.write_bytes(b"")
        task = [[str(argument) for argument in arguments], env or {}, user, [os.devnull, str(out), str(err)]]
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return Done(code, out.read_text(), err.read_text())


@contextlib.contextmanager
def commands(folder: Path) -> Iterator[Commands]:
    """Run the process that runs them, for the block."""
    # A clean environment of our own names: what a developer has exported must not reach the commands.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEETVISOR_")}
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    )
    try:
        yield Commands(process, folder)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(SECONDS_MAX)
