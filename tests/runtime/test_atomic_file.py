"""Files that are whole or not there."""

import errno
import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from saliency_vae.runtime.atomic_file import whole_file, write_whole


def test_the_file_appears_at_the_end_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new/file"
    with whole_file(path) as partial:
        partial.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert os.listdir(path.parent) == ["file"]


def test_what_fails_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "earlier")

    def write_half() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_text("a long half of a file")
    write_whole(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_two_writers_of_one_file_do_not_disturb_each_other(
    tmp_path: Path, first_ends_first: bool
) -> None:
    path = tmp_path / "file"
    first, second = ExitStack(), ExitStack()
    names = []
    for writer, content in ((first, "first"), (second, "second")):
        names.append(writer.enter_context(whole_file(path)))
        names[-1].write_text(content)
    assert names[0] != names[1]
    assert [name.read_text() for name in names] == ["first", "second"]
    ends = [(first, "first"), (second, "second")]
    for writer, content in ends if first_ends_first else reversed(ends):
        writer.close()
        assert path.read_text() == content
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_names_the_file_that_it_is_of(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "inner"

    def fill_the_disk() -> None:
        with whole_file(outer) as partial:
            partial.write_text("whole")
            with whole_file(inner):
                raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=re.escape(str(inner))) as raised:
        fill_the_disk()
    assert (raised.value.filename, raised.value.errno) == (str(inner), errno.ENOSPC)
    assert not list(tmp_path.iterdir())

    with pytest.raises(FileNotFoundError) as missing, whole_file(outer):
        (tmp_path / "missing").read_bytes()
    assert missing.value.filename == str(tmp_path / "missing")


def test_a_place_that_cannot_be_written_to_is_named_as_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file/below", tmp_path / "file/further/below"):
        with pytest.raises(OSError, match=re.escape(str(place))):
            write_whole(place, "content")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match=f"{tmp_path}/taken'$"):
        write_whole(tmp_path / "taken", "content")
    assert sorted(os.listdir(tmp_path)) == ["file", "taken"]
