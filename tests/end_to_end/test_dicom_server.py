"""A segmentation sent to a DICOM server and fetched again is the same, pixel for pixel. All on loopback."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, RLELossless, SegmentationStorage
from pynetdicom import AE, evt

from medseg.data.dicom.source import read_source
from medseg.data.dicom.write_seg import write_segmentation
from medseg.data.read import read_mask
from medseg.data.volume import Volume
from medseg.demonstration.synthetic_ct import write_ct_series
from tests.dicom_segs import AUTHOR, blobs, meaning

SHAPE = (12, 10, 8)
LABELMAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
CLASSES = (CTImageStorage, SegmentationStorage, LABELMAP_STORAGE)
SYNTAXES = [ExplicitVRLittleEndian, RLELossless]
ORTHANC = shutil.which("Orthanc")


@pytest.fixture
def made(tmp_path):
    """A series and its segmentation of each kind."""
    write_ct_series(np.zeros(SHAPE, np.int16), np.diag([-1.0, -1, 2, 1]), tmp_path / "ct", seed_uid="server")
    source = read_source(tmp_path / "ct")
    mask = Volume(blobs(SHAPE), source.grid.affine)
    paths = {}
    for kind in ("binary", "labelmap"):
        paths[kind] = tmp_path / f"{kind}.dcm"
        write_segmentation(mask, source, paths[kind], meaning(3), AUTHOR, kind)
    return paths, mask


def send(path, port):
    """C-STORE, in the transfer syntax of the file; the status."""
    data_set = pydicom.dcmread(path)
    entity = AE(ae_title="MEDSEG")
    entity.add_requested_context(data_set.SOPClassUID, data_set.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port)
    assert association.is_established
    try:
        return association.send_c_store(data_set).Status
    finally:
        association.release()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def assert_same(sent, received, mask):
    assert received.read_bytes() != b""
    assert pydicom.dcmread(received).PixelData == pydicom.dcmread(sent).PixelData
    np.testing.assert_array_equal(read_mask(received).array, mask.array)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_a_storage_server_gets_the_pixels_that_were_written(made, tmp_path, kind):
    paths, mask = made
    received = tmp_path / "received.dcm"

    def store(event):
        data_set = event.dataset
        data_set.file_meta = event.file_meta
        data_set.save_as(received, enforce_file_format=True)
        return 0x0000

    entity = AE()
    for storage_class in CLASSES:
        entity.add_supported_context(storage_class, SYNTAXES)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        assert send(paths[kind], server.server_address[1]) == 0x0000
    finally:
        server.shutdown()
    assert_same(paths[kind], received, mask)


@contextmanager
def orthanc(folder):
    """Debian's Orthanc, listening on loopback alone; its ports for DICOM and HTTP."""
    ports = free_port(), free_port()
    config = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomPort": ports[0],
        "HttpPort": ports[1],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                fetch(ports[1], "system")
                break
            except OSError:
                time.sleep(0.1)
        yield ports
    finally:
        process.terminate()
        process.wait(timeout=30)


def fetch(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
        return answer.read()


@pytest.mark.slow
@pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
def test_orthanc_gives_back_the_pixels_that_were_written(made, tmp_path):
    paths, mask = made
    with orthanc(tmp_path) as (dicom_port, http_port):
        assert send(paths["binary"], dicom_port) == 0x0000
        (instance,) = json.loads(fetch(http_port, "instances"))
        received = tmp_path / "received.dcm"
        received.write_bytes(fetch(http_port, f"instances/{instance}/file"))
    assert_same(paths["binary"], received, mask)
