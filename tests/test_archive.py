"""A packed folder comes back as it was, and nothing else does."""

import io
import tarfile

import pytest

from ojd_daps_language_models.archive import pack_folder, unpack_folder


def test_files_come_back_in_their_folders(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "config.json").write_text("{}")
    (tmp_path / "a" / "b" / "weights").write_bytes(bytes(range(256)))
    packed = pack_folder(tmp_path / "a")
    back = unpack_folder(packed, tmp_path / "back")
    assert (back / "config.json").read_text() == "{}"
    assert (back / "b" / "weights").read_bytes() == bytes(range(256))
    assert pack_folder(back) == packed


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE])
def test_nothing_is_written_outside_of_the_folder(name, kind, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(tarfile.TarError, match="no file inside"):
        unpack_folder(buffer.getvalue(), tmp_path / "in")
    assert not (tmp_path / "outside").exists()


def test_damaged_bytes_are_no_archive(tmp_path):
    with pytest.raises(tarfile.TarError):
        unpack_folder(b"no tar", tmp_path)
