"""Archives of files: recognised by their names, checked as a whole, unpacked without leaving their folder."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.compressed import FAULTS

ARCHIVES = (".tar.lzma", ".tar.xz", ".tar.gz", ".tgz", ".tar.bz2", ".tar", ".zip")
UNPACKED_BYTES_MAX = 2 * 2**30
MEMBERS_MAX = 20_000
_CHUNK = 2**20


def is_archive(name: str) -> bool:
    """Whether a file of this name is an archive."""
    return name.endswith(ARCHIVES)


def without_ending(name: str) -> str:
    """Return the name of an archive without its ending, any other name as it is."""
    ending = next((own for own in ARCHIVES if name.endswith(own)), "")
    return name.removesuffix(ending)


def unpack(path: Path, folder: Path) -> Path:
    """Unpack the files of an archive into a folder, nothing outside of it and no links, and return the folder.

    Parameters
    ----------
    path : archive
    folder : empty

    Raises
    ------
    StudyError
        If the archive is damaged, asks for a password, or would unpack to more than 2 GiB or 20,000 files.
    """
    _read(path, folder)
    return folder


def check_archive(path: Path) -> None:
    """Read an archive to its end; raises as ``unpack``."""
    _read(path, None)


def _read(path, folder):
    try:
        if path.name.endswith(".zip"):
            _read_zip(path, folder)
        else:
            _read_tar(path, folder)
    except StudyError:
        raise
    except (tarfile.TarError, zipfile.BadZipFile, ValueError, RuntimeError, *FAULTS) as error:
        raise StudyError(f"the archive cannot be read: {str(error)[:200]}", where=str(path),
                         fix="copy it again, or give the unpacked folder") from error  # fmt: skip


def _read_tar(path, folder):
    with tarfile.open(path) as packed:
        members = [one for one in packed.getmembers() if one.isfile()]
        _refuse_large(path, [one.size for one in members])
        if folder is not None:
            packed.extractall(folder, members, filter="data")


def _read_zip(path, folder):
    with zipfile.ZipFile(path) as packed:
        members = [one for one in packed.infolist() if not one.is_dir()]
        _refuse_large(path, [one.file_size for one in members])
        for member in members:
            if folder is not None:
                packed.extract(member, folder)
                continue
            with packed.open(member) as stream:
                while stream.read(_CHUNK):
                    pass


def _refuse_large(path, sizes):
    if sum(sizes) > UNPACKED_BYTES_MAX or len(sizes) > MEMBERS_MAX:
        raise StudyError(f"{len(sizes)} files of {sum(sizes) / 2**20:.0f} MiB", where=str(path),
                         fix="give the unpacked folder")  # fmt: skip
