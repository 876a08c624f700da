"""Find guests, read their descriptions, verify the prebuilt images."""

from __future__ import annotations

import shutil

import pytest

from disco_trace.errors import DiscoError
from disco_trace.guest.description import read_description
from disco_trace.guest.lock import read_lock, stale_images, verify_image
from disco_trace.guest.resolve import find_guest, guest_names
from disco_trace.paths import data_folder

CAPTURE = data_folder("capture")


def test_every_guest_has_an_image_and_a_description():
    assert {"radix", "database", "hello", "exit7", "fault", "spin"} <= set(guest_names())
    for name in guest_names():
        guest = find_guest(name)
        assert guest.image.is_file()
        assert guest.description
    radix = find_guest("radix")
    assert radix.phases[5] == "permute"
    assert radix.machine == "flash8"
    assert radix.demo_args
    assert find_guest("radix-sseg").phases == radix.phases


def test_images_are_those_of_the_lock_file_and_of_the_sources():
    assert set(read_lock(CAPTURE / "images").images) == {f"{n}.elf" for n in guest_names()}
    assert stale_images(CAPTURE) == []


def test_an_exchanged_image_is_refused(tmp_path):
    for name in ("hello.elf", "images.lock.json"):
        shutil.copyfile(CAPTURE / "images" / name, tmp_path / name)
    image = tmp_path / "hello.elf"
    verify_image(image)
    image.write_bytes(image.read_bytes() + b"\0")
    verify_image.cache_clear()
    with pytest.raises(DiscoError, match="not the one that was built"):
        verify_image(image)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(DiscoError, match="no guest 'radx'") as raised:
        find_guest("radx")
    assert "'radix'" in (raised.value.hint or "")


def test_a_path_takes_the_description_beside_it(tmp_path):
    image = tmp_path / "mine.elf"
    with pytest.raises(DiscoError, match="no such image"):
        find_guest(str(image))
    shutil.copyfile(CAPTURE / "images" / "hello.elf", image)
    assert find_guest(str(image)).phases == {}
    (tmp_path / "mine.toml").write_text('description = "mine"\n[phases]\n3 = "third"\n')
    assert find_guest(str(image)).phases == {3: "third"}
    assert find_guest(str(image)).name == "mine"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "description = 3",
        'description = "x"\nargments = []',
        'description = "x"\n[phases]\n0 = "zero"',
        'description = "x"\n[phases]\n40000 = "many"',
        'description = "x"\n[phases]\none = "word"',
        'description = "x"\nsegments = ["user"]',
        'description = "x"\nsegments = []',
        'description = "x',
        b"\xff\xfe",
    ],
)
def test_bad_descriptions_get_a_clear_line(tmp_path, text):
    path = tmp_path / "guest.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DiscoError) as raised:
        read_description(path)
    assert raised.value.file == str(path)
    assert "\n" not in str(raised.value)
