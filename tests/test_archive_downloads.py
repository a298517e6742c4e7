"""Archives of force sets from a server on this machine that breaks off, changes its mind, or sends pages."""

import hashlib
import io
import lzma
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from phonopy import Phonopy

from phonoscreen.__main__ import main
from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.formats.archives import check_archive, unpack
from phonoscreen.formats.born import phonopy_atoms
from phonoscreen.formats.force_sets import find_force_sets, force_set_name, read_force_set
from phonoscreen.structures.archive_downloads import Address, addresses_in, choose, fetch_archives, fetched_in
from tests.supercell_files import make_model

TABLE = """| Materials Project ID | Name | Space group type | URL | data-link |
| --- | --- | --- | --- | --- |
| 149 | Si | Fd-3m (227) |  {url}/concern/datasets/m039k924j | [m039k924j.zip]({url}/download_all/m039k924j.zip) |
| 165 | Si | P6_3/mmc (194) |  {url}/concern/datasets/k930c3397 | [k930c3397.zip]({url}/download_all/k930c3397.zip) |
"""
"""Laid out as phononDB's table of its data sets at NIMS."""


class Server(ThreadingHTTPServer):
    """Serves files by their last name; ``faults`` are used up one by one."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.ranges, self.tag = files, [], [], '"one"'
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server, name = self.server, self.path.rsplit("/", 1)[-1]
        fault, asked = server.faults.pop(0) if server.faults else "", self.headers.get("Range")
        server.ranges.append((name, asked))
        if fault == "502" or name not in server.files:
            return self.answer(502 if fault else 404, b"")
        body, begin = server.files[name], 0
        if asked and self.headers.get("If-Range") == server.tag:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
        headers = {"ETag": server.tag} if server.tag else {}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        self.answer(206 if begin else 200, body[begin:], headers, broken=fault == "broken")

    def answer(self, status, body, headers=None, broken=False):
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if broken else body)
        if broken:
            self.close_connection = True


def zipped(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, content in files.items():
            packed.writestr(name.replace("__", "."), content)
    return stream.getvalue()


@pytest.fixture
def server():
    made = Server({name: zipped(note__txt=name * 20000) for name in ("m039k924j.zip", "k930c3397.zip")})
    yield made
    made.shutdown()
    made.server_close()


def fetch(server, folder, addresses=None):
    found = addresses_in(TABLE.format(url=server.url)) if addresses is None else addresses
    return fetch_archives(found, folder, tries=4, wait_s=0.01, pause_s=0.0)


def test_addresses_are_found_in_tables_and_lists_and_chosen_by_their_words():
    found = addresses_in(TABLE.format(url="https://mdr.nims.go.jp"))
    assert [one.name for one in found] == ["m039k924j.zip", "k930c3397.zip"]
    assert [one.name for one in choose(found, ["mp-165"])] == ["k930c3397.zip"]
    assert choose(found, ["Si"]) == found == choose(found, [])
    with pytest.raises(StudyError, match="mp-14"):
        choose(found, ["mp-14"])
    (listed,) = addresses_in(f"http://there/mp-1.tar.lzma {'a' * 64}\nhttp://there/about.html\n")
    assert listed == Address("http://there/mp-1.tar.lzma", listed.line, "a" * 64)


def test_a_download_that_breaks_off_goes_on_where_it_stopped_and_nothing_is_fetched_twice(server, tmp_path):
    server.faults = ["broken", "502", "broken"]
    assert fetch(server, tmp_path) == {}
    for name, content in server.files.items():
        assert (tmp_path / name).read_bytes() == content
    starts = [asked for name, asked in server.ranges if name == "m039k924j.zip"]
    assert starts[0] is None and any(starts), starts
    asked = len(server.ranges)
    assert fetch(server, tmp_path) == {} and len(server.ranges) == asked
    (record,) = [one for one in fetched_in(tmp_path).values() if one.file == "k930c3397.zip"]
    assert record.sha256 == hashlib.sha256(server.files["k930c3397.zip"]).hexdigest()
    (tmp_path / "k930c3397.zip").write_bytes(b"spoilt")
    assert fetch(server, tmp_path) == {} and len(server.ranges) == asked + 1
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_has_changed_between_two_parts_is_fetched_from_its_beginning(server, tmp_path):
    server.faults = ["broken"] * 4
    (first, _) = addresses_in(TABLE.format(url=server.url))
    assert "no whole answer after 4 tries" in fetch(server, tmp_path, [first])[first.url]
    assert (tmp_path / ".m039k924j.zip.part").stat().st_size > 0 and not (tmp_path / "m039k924j.zip").exists()
    server.tag, server.files["m039k924j.zip"] = '"two"', zipped(note__txt="another" * 9000)
    assert fetch(server, tmp_path, [first]) == {}
    assert (tmp_path / "m039k924j.zip").read_bytes() == server.files["m039k924j.zip"]


def test_pages_wrong_checksums_and_missing_files_are_named_and_the_others_come(server, tmp_path):
    server.files["page.zip"] = b"<html>log in</html>"
    names = ["page.zip", "gone.zip", "m039k924j.zip", "k930c3397.zip"]
    addresses = [Address(f"{server.url}/{name}", "", "0" * 64 if name.startswith("m0") else "") for name in names]
    failures = fetch(server, tmp_path, addresses)
    assert {url.rsplit("/", 1)[1]: reason[:30] for url, reason in failures.items()} == {
        "page.zip": "the archive cannot be read: Fi",
        "gone.zip": "HTTP 404",
        "m039k924j.zip": failures[addresses[2].url][:30],
    }
    assert "announced 0000000000000000" in failures[addresses[2].url]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fetched.csv", "k930c3397.zip"]
    twice = [Address(f"{server.url}/a/x.zip"), Address(f"{server.url}/b/x.zip")]
    assert "two addresses end in x.zip" in fetch(server, tmp_path / "twice", twice)[twice[1].url]


def test_the_command_fetches_phonopys_files_that_are_then_a_force_set(server, tmp_path, capsys):
    model = make_model()
    cell = phonopy_atoms(Crystal.from_ase(model.unit_cell))
    phonon = Phonopy(cell, supercell_matrix=[2, 2, 2], log_level=0)
    phonon.generate_displacements(distance=0.01)
    phonon.forces = [0.001 * (k + 1) * (one.positions - one.positions.mean(axis=0)) for k, one in
                     enumerate(phonon.supercells_with_displacements)]  # fmt: skip
    phonon.save(tmp_path / "phonopy_params.yaml")
    server.files["m039k924j.zip"] = zipped(
        **{"phonopy_params.yaml.xz": lzma.compress((tmp_path / "phonopy_params.yaml").read_bytes())}
    )
    (tmp_path / "README.md").write_text(TABLE.format(url=server.url))
    words = ["fetch", str(tmp_path / "README.md"), str(tmp_path / "sets"), "--only", "mp-149"]
    assert main(words) == 0 and "1 of 1 archives" in capsys.readouterr().out
    (place,) = find_force_sets(tmp_path / "sets")
    assert force_set_name(place, tmp_path / "sets") == "m039k924j"
    (tmp_path / "work").mkdir()
    found = read_force_set(place, tmp_path / "work")
    assert len(found.data.forces) == len(phonon.supercells_with_displacements)
    assert main(["fetch", str(tmp_path / "phonopy_params.yaml"), str(tmp_path / "sets")]) == 2
    assert "no address of an archive" in capsys.readouterr().err


def test_archives_that_would_leave_their_folder_or_are_damaged_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.zip"
    content = bytearray(zipped(a__txt="some text " * 50))
    content[60] ^= 1
    path.write_bytes(content)
    with pytest.raises(StudyError, match="cannot be read"):
        check_archive(path)
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("../../outside.txt", "x")
    unpack(path, tmp_path / "inside")
    monkeypatch.setattr("phonoscreen.formats.archives.MEMBERS_MAX", 0)
    with pytest.raises(StudyError, match="1 files of 0 MiB") as refusal:
        check_archive(path)
    assert refusal.value.fix == "give the unpacked folder"  # a copy is as large
    assert not (tmp_path.parent / "outside.txt").exists() and (tmp_path / "inside/outside.txt").exists()
