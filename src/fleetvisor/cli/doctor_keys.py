"""What ``doctor`` says of key files that lie outside the data directory, as the last start of the server named them."""

from collections.abc import Iterator
from pathlib import Path

from fleetvisor.cli.checks import Check, Verdict


def given_keys_check(directory: Path) -> Iterator[Check]:
    """Judge who else may read or replace ``--tls-key`` and ``--seal-key-file``; without any, nothing."""
    from fleetvisor.server.given import faults_of, read_record

    paths = [Path(name) for name in read_record(directory).key_files]
    well = bool(paths)
    for path in paths:
        try:
            faults = faults_of(path)
        except OSError as error:
            advice = "Put the file back, or give serve another one. Without it the server cannot start again."
            yield Check("given keys", Verdict.FAIL, f"{path} cannot be looked at: {error.strerror}", advice)
            well = False
            continue
        well = well and not faults
        yield from (Check("given keys", Verdict.FAIL, fault.finding, fault.advice) for fault in faults)
    if well:
        yield Check("given keys", Verdict.OK, "only their owner may read --tls-key and --seal-key-file")
