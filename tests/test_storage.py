"""Products in an object storage: a real server on this machine, the plugin of Snakemake, damaged objects refused."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest

from phonoscreen.audit import provenance
from phonoscreen.audit.integrity import check_inputs
from phonoscreen.audit.provenance import announce_storage, product_name, record_path, write_provenance
from tests.conftest import ROOT
from tests.small_run import write_smaller_study

KEYS = {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "test", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "test",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A folder whose products live in a storage, with local copies in a place of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(provenance.STORAGE, "")
    announce_storage(SimpleNamespace(default_storage_provider="s3", local_storage_prefix=Path("scratch/copies")))
    return tmp_path


@pytest.mark.parametrize(
    "path, name",
    [
        ("scratch/copies/s3/bucket/study/results/labels/0000.h5", "results/labels/0000.h5"),
        ("scratch/copies/s3/results/results/labels/0000.h5", "results/labels/0000.h5"),
        ("results/labels/0000.h5", "results/labels/0000.h5"),
        ("scratch/copies/s3/bucket/logs/a.log", "scratch/copies/s3/bucket/logs/a.log"),
        ("pool/results.csv", "pool/results.csv"),
    ],
)
def test_a_local_copy_has_the_name_of_its_product(stored, path, name):
    assert product_name(path) == name


def test_without_a_storage_names_stay_as_they_are(stored):
    announce_storage(SimpleNamespace(default_storage_provider=None, local_storage_prefix=Path("scratch/copies")))
    path = "scratch/copies/s3/bucket/results/a.h5"
    assert product_name(path) == path and not provenance.has_storage()


def test_the_record_of_an_object_is_that_of_its_product_and_a_changed_copy_is_refused(stored):
    copy = Path("scratch/copies/s3/bucket/results/labels/0000.h5")
    copy.parent.mkdir(parents=True)
    copy.write_text("forces")
    job = SimpleNamespace(rule="label_forces", params={}, wildcards={"shard": "0000"}, key="k", inputs={})
    write_provenance(job, [str(copy)], started=0.0)
    assert record_path("results/labels/0000.h5").exists() and record_path(copy) == record_path("results/labels/0000.h5")
    assert list(check_inputs([copy], "here")) == ["results/labels/0000.h5"]
    copy.write_text("Forces")
    with pytest.raises(ValueError, match="has changed"):
        check_inputs([copy], "here")


@pytest.fixture(scope="module")
def bucket():
    """A client of a real S3 server on this machine with an empty bucket, and its address."""
    pytest.importorskip("snakemake_storage_plugin_s3", reason="make test-storage")
    pytest.importorskip("moto.server", reason="make test-storage")
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(address, timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1",
                              aws_access_key_id="test", aws_secret_access_key="test")  # fmt: skip
        client.create_bucket(Bucket="study")
        yield client, address
    finally:
        server.terminate()
        server.wait()


OF_THE_FOLDER = {"provenance", "work"}
"""Folders of results that stay on a disk: records of integrity, and what a killed job goes on from."""


def products(folder):
    """Return the paths of the files in the results of a study."""
    return {str(path.relative_to(folder)) for path in (folder / "results").rglob("*") if path.is_file()}


def test_a_study_keeps_its_products_in_the_storage_and_refuses_a_damaged_object(tmp_path, bucket):
    client, address = bucket
    shutil.copytree(ROOT / ".test/config", tmp_path / "config")
    command = [sys.executable, "-m", "snakemake", "results/structures/manifest.parquet", "-s", str(ROOT / "Snakefile"),
               "--directory", str(tmp_path), "--configfile", "config/config.yaml", "--cores", "1",
               "--default-storage-provider", "s3", "--default-storage-prefix", "s3://study/first",
               "--storage-s3-endpoint-url", address]  # fmt: skip

    def snakemake(*arguments):
        environment = {**os.environ, **KEYS}
        return subprocess.run([*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = snakemake()
    assert done.returncode == 0, done.stderr[-3000:]
    objects = {entry["Key"] for entry in client.list_objects_v2(Bucket="study")["Contents"]}
    assert {"first/results/structures/manifest.parquet", "first/results/structures/initial/0000.extxyz"} <= objects
    assert {path.split("/")[1] for path in products(tmp_path)} <= OF_THE_FOLDER, "products are in the storage alone"
    assert (tmp_path / "results/provenance/files/structures/manifest.parquet.json").exists()
    key = "first/results/structures/candidates.parquet"
    content = client.get_object(Bucket="study", Key=key)["Body"].read()
    client.put_object(Bucket="study", Key=key, Body=content[:-1] + bytes([content[-1] ^ 1]))
    refused = snakemake("--force")
    assert refused.returncode and "results/structures/candidates.parquet: its content has changed" in refused.stderr


def same_table(path, content):
    """Return whether a table on the disk equals one of the storage, times and the last digit of a sum apart."""
    one, two = pandas.read_csv(path), pandas.read_csv(io.BytesIO(content))
    if path.name == "timings.csv":
        return list(one) == list(two) and len(one) == len(two)
    drop = [column for column in one if "seconds" in column]
    try:
        pandas.testing.assert_frame_equal(one.drop(columns=drop), two.drop(columns=drop), rtol=1e-12, atol=0)
    except AssertionError:
        return False
    return True


@pytest.mark.skipif("PHONOSCREEN_STORAGE" not in os.environ, reason="make test-storage")
def test_the_whole_study_through_the_storage_ends_in_the_tables_of_a_study_on_a_disk(tmp_path, bucket):
    """Every stage reads and writes objects."""
    client, address = bucket
    options = ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://study/whole",
               "--storage-s3-endpoint-url", address]  # fmt: skip
    disk, storage = tmp_path / "disk", tmp_path / "storage"
    for place, more in ((disk, []), (storage, options)):
        place.mkdir()
        snakemake = [sys.executable, "-m", "snakemake", "all", "-s", str(ROOT / "Snakefile"), "--directory", str(place)]
        command = [*snakemake, *write_smaller_study(place), *more]
        done = subprocess.run(command, cwd=place, env={**os.environ, **KEYS}, capture_output=True, text=True)
        assert done.returncode == 0, f"{place.name}: {(done.stdout + done.stderr)[-3000:]}"
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="study", Prefix="whole/results/")
    stored = {entry["Key"].removeprefix("whole/") for page in pages for entry in page["Contents"]}
    expected = {path for path in products(disk) if path.split("/")[1] not in OF_THE_FOLDER}
    assert expected <= stored and len(expected) > 100
    assert {path.split("/")[1] for path in products(storage)} <= OF_THE_FOLDER
    tables = sorted(path for path in expected if path.startswith("results/tables/") and path.endswith(".csv"))
    contents = {path: client.get_object(Bucket="study", Key=f"whole/{path}")["Body"].read() for path in tables}
    assert len(tables) > 12 and [path for path in tables if not same_table(disk / path, contents[path])] == []
