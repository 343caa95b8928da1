"""examples/firmware: the kept .elf files are what their sources give."""

import io
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from fleetvisor.protocol import pack
from fleetvisor.protocol.firmware import load_firmware

FOLDER = Path(__file__).resolve().parents[3] / "examples/firmware"
NAMES = ("blinker-v1.elf", "blinker-v2.elf")


def toolchain():
    """Give the first version lines of compiler and linker, as built-with.txt holds them; or None."""
    tools = ("arm-none-eabi-gcc", "arm-none-eabi-ld")
    if any(shutil.which(tool) is None for tool in (*tools, "make")):
        return None
    lines = [subprocess.run([tool, "--version"], check=True, capture_output=True, text=True).stdout for tool in tools]
    return [line.splitlines()[0] for line in lines]


def segments(path):
    """Give what of a program is loaded: addresses, sizes, flags and bytes."""
    program = ELFFile(io.BytesIO(path.read_bytes()))
    fields = ("p_type", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_flags")
    return [([segment[field] for field in fields], segment.data()) for segment in program.iter_segments()]


def test_the_kept_programs_are_those_of_their_sources(tmp_path):
    """Rebuilt elsewhere, so that the place of the sources is seen to leave no trace."""
    recorded = (FOLDER / "built-with.txt").read_text().splitlines()
    found = toolchain()
    if found is None:
        pytest.skip("arm-none-eabi-gcc or make is not installed")
    if found != recorded:
        pytest.skip(f"built with {recorded}, but here is {found}")
    sources = tmp_path / "sources"
    shutil.copytree(FOLDER, sources, ignore=shutil.ignore_patterns("*.elf"))
    subprocess.run(["make", "-s", "-C", sources, f"OUT={tmp_path}"], check=True)
    for name in NAMES:
        assert segments(tmp_path / name) == segments(FOLDER / name), f"make -C examples/firmware record ({name})"


@pytest.mark.parametrize(("version", "name"), list(enumerate(NAMES, start=1)))
def test_a_program_starts_as_a_cortex_m_does(version, name):
    """Stack pointer at the end of RAM, reset vector in ROM with the Thumb bit, then what the image is."""
    image = load_firmware(FOLDER / name)
    stack, reset = struct.unpack_from("<2L", image)
    assert stack == 0x20000000 + (512 << 10)
    assert reset % 2 == 1
    assert 0x08000000 < reset < 0x08000000 + len(image)
    magic, number, title = struct.unpack_from("<8sL20s", image, 64)
    assert (magic.rstrip(b"\0"), number) == (b"FVBLINK", version)
    assert title.startswith(b"blinker ")


def test_the_two_versions_differ_in_code_and_not_only_in_their_names():
    one, two = (load_firmware(FOLDER / name) for name in NAMES)
    assert len(one) != len(two)
    assert one[96:] != two[96 : len(one)]


def test_no_path_of_the_builder_is_in_a_program():
    for name in NAMES:
        data = (FOLDER / name).read_bytes()
        assert not any(trace in data for trace in (b"/home", b"/work", b"/root", b"/tmp", b".c\0"))


def test_the_programs_make_bundles():
    assert len({pack.pack(load_firmware(FOLDER / name)) for name in NAMES}) == 2


@pytest.mark.skipif(shutil.which("arm-none-eabi-objcopy") is None, reason="arm-none-eabi-objcopy is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_our_image_is_that_of_objcopy(tmp_path, name):
    """An independent tool lays the same program out."""
    flat = tmp_path / "flat.bin"
    command = ["arm-none-eabi-objcopy", "-O", "binary", "--gap-fill", "0xff", FOLDER / name, flat]
    subprocess.run(command, check=True)
    assert load_firmware(FOLDER / name) == flat.read_bytes()
