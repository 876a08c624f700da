"""Build guests, ours and a user's."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from disco_trace.errors import DiscoError
from disco_trace.guest.build import build_guest
from disco_trace.guest.compiler import GCC, find_compiler
from disco_trace.guest.elf import load_image
from disco_trace.guest.lock import read_lock
from disco_trace.paths import data_folder

CAPTURE = data_folder("capture")
needs_gcc = pytest.mark.skipif(shutil.which(GCC) is None, reason=f"no {GCC}")


def user_guest(tmp_path, source: str):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "guest.toml").write_text('description = "mine"\n[phases]\n1 = "one"\n')
    (folder / "mine.c").write_text(source)
    return folder


@needs_gcc
def test_a_prebuilt_image_can_be_built_again_bit_by_bit(tmp_path):
    locked = read_lock(CAPTURE / "images").images["hello.elf"]
    if find_compiler("gcc").name != locked.compiler:
        pytest.skip(f"another compiler than {locked.compiler}")
    kseg0, supervisor = build_guest(CAPTURE / "guests" / "hello", tmp_path)
    assert kseg0.locked == locked
    assert supervisor.path.name == "hello-sseg.elf"
    assert (tmp_path / "hello.toml").is_file()


@needs_gcc
def test_a_users_guest(tmp_path):
    folder = user_guest(tmp_path, '#include "libos.h"\nint main(void) { return 3; }\n')
    (built,) = build_guest(folder, tmp_path / "out")
    image = load_image(built.path, 64 << 20)
    assert {"main", "tlb_refill"} <= {symbol.name for symbol in image.symbols}
    assert str(tmp_path).encode() not in built.path.read_bytes()
    before = built.path.read_bytes()
    with pytest.raises(DiscoError, match="exists already"):
        build_guest(folder, tmp_path / "out", force=False)
    (folder / "mine.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(DiscoError, match=r"mine\.c:1.*nothing"):
        build_guest(folder, tmp_path / "out")
    assert built.path.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.elf", "mine.toml"]


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_the_kernel_takes_nothing_from_the_program(tmp_path, compiler):
    """A compiler may call memcpy by itself: from the kernel that would run user text.

    And it leaves the floating-point registers alone, but where it saves and loads them.
    """
    if (compiler == "gcc" and shutil.which(GCC) is None) or (
        compiler == "zig" and importlib.util.find_spec("ziglang") is None
    ):
        pytest.skip(f"no {compiler}")
    folder = user_guest(tmp_path, "int main(void) { return 0; }\n")
    (built,) = build_guest(folder, tmp_path, compiler=find_compiler(compiler))
    image = load_image(built.path, 64 << 20)
    user = {s.address for s in image.symbols if s.type == "func" and s.address < 0x80000000}
    allowed = {s.address for s in image.symbols if s.name == "user_entry"}
    kernel = [segment for segment in image.segments if segment.vaddr in (0x80000000, 0x80001000)]
    assert len(kernel) == 2  # vectors and text
    end = kernel[1].vaddr + len(kernel[1].data)
    functions = [
        s for s in image.symbols if s.type == "func" and kernel[1].vaddr <= s.address < end
    ]
    text_end = max(s.address + s.size for s in functions)
    allowed_float = [
        (s.address, s.address + s.size) for s in functions if s.name in ("fpu_save", "fpu_load")
    ]
    assert len(allowed_float) == 2
    for segment in kernel:
        for at in range(0, len(segment.data) - 3, 4):
            word = int.from_bytes(segment.data[at : at + 4], "little")
            # COP1, COP1X, LWC1, LDC1, SWC1, SDC1; text holds no data but strings.
            if word >> 26 in (17, 19, 49, 53, 57, 61) and segment.vaddr + at < text_end:
                assert any(low <= segment.vaddr + at < high for low, high in allowed_float)
            if word >> 26 in (2, 3):  # J and JAL stay in their 256 MiB, that of the kernel
                target = (segment.vaddr + at) & 0xF0000000 | (word & 0x3FFFFFF) << 2
                assert target not in user - allowed
                assert 0x80000000 <= target < end, hex(segment.vaddr + at)


def test_what_is_no_guest(tmp_path):
    with pytest.raises(DiscoError, match="no such folder"):
        build_guest(tmp_path / "none")
    with pytest.raises(DiscoError, match="description"):
        build_guest(tmp_path)
    (tmp_path / "guest.toml").write_text('description = "x"')
    with pytest.raises(DiscoError, match="nothing to compile"):
        build_guest(tmp_path)


def test_no_compiler_is_an_installation_matter(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DiscoError, match="no compiler for MIPS") as raised:
        find_compiler()
    assert raised.value.exit_code == 3
