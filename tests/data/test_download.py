"""Published files are fetched once, checked and stored; or a sentence says where to put them."""

import gc
import gzip
import hashlib
import io
import struct
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from sgdnoise import data
from sgdnoise.data import _download as download


class Server(ThreadingHTTPServer):
    """Files by their path, the paths that were asked for, and a fault to answer with."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.fault = {}, [], None

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/files/"


class Handler(BaseHTTPRequestHandler):
    """Answers with a file, or with the fault of the server."""

    def do_GET(self):
        name = self.path.removeprefix("/files/")
        self.server.asked.append(name)
        content = self.server.files.get(name)
        if content is None or self.server.fault == "gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.server.fault == "other":
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.wfile.write(content[: len(content) // 2] if self.server.fault == "cut" else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of small files, in the place of the public ones, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def publish(server, monkeypatch, name, files):
    """Put files on the server, with their checksums in the place of the published ones."""
    source = getattr(download, name)
    assert set(files) == set(source.sums)
    server.files |= files
    sums = {file: f"md5:{hashlib.md5(content).hexdigest()}" for file, content in files.items()}
    monkeypatch.setattr(download, name, source._replace(address=server.address, sums=sums))


def idx_files(rng):
    """Four small files as those of MNIST, and images and labels by subset."""
    files, arrays = {}, {}
    for subset, begin, n in (("train", "train", 5), ("test", "t10k", 3)):
        images, labels = rng.integers(0, 256, (n, 28, 28)), rng.integers(0, 10, n)
        for stem, values in (("images", images), ("labels", labels)):
            header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            content = gzip.compress(header + values.astype(np.uint8).tobytes())
            files[f"{begin}-{stem}-idx{values.ndim}-ubyte.gz"] = content
        arrays[subset] = images[:, None], labels
    return files, arrays


def archive(folder, members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        for name, content in members.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def cifar_files(rng):
    """Small archives of CIFAR-10 and CIFAR-100, and the images of the first file of each."""
    pixels = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
    ten, hundred = (np.hstack([np.full((2, n), 7, np.uint8), pixels]).tobytes() for n in (1, 2))
    batches = {f"data_batch_{i}.bin": ten for i in range(1, 6)} | {"test_batch.bin": ten}
    files = {
        "cifar-10-binary.tar.gz": archive("cifar-10-batches-bin", batches),
        "cifar-100-binary.tar.gz": archive("cifar-100-binary", {"train.bin": hundred}),
    }
    return files, pixels.reshape(2, 3, 32, 32)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_files_are_fetched_once_and_only_those_of_the_subset(server, monkeypatch, rng, name):
    files, arrays = idx_files(rng)
    publish(server, monkeypatch, name.upper(), files)
    for subset, (images, labels) in arrays.items():
        server.asked.clear()
        for _ in range(2):
            result = getattr(data, name)(subset=subset)
            np.testing.assert_allclose(result.inputs * 255, images, rtol=1e-6)
            np.testing.assert_array_equal(result.targets, labels)
        begin = "train" if subset == "train" else "t10k"
        assert sorted(server.asked) == sorted(file for file in files if file.startswith(begin))


def test_archives_are_fetched_once_each(server, monkeypatch, rng):
    files, images = cifar_files(rng)
    publish(server, monkeypatch, "CIFAR", files)
    for _ in range(2):
        np.testing.assert_allclose(data.cifar10().inputs[:2] * 255, images, rtol=1e-6)
        np.testing.assert_allclose(data.cifar10(subset="test").inputs * 255, images, rtol=1e-6)
        np.testing.assert_allclose(data.cifar100().inputs * 255, images, rtol=1e-6)
    assert sorted(server.asked) == ["cifar-10-binary.tar.gz", "cifar-100-binary.tar.gz"]


def test_a_folder_of_the_user_is_read_without_a_network(server, monkeypatch, rng, tmp_path):
    files, arrays = idx_files(rng)
    publish(server, monkeypatch, "MNIST", files)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(data.mnist(tmp_path).targets, arrays["train"][1])
    assert not server.asked


def test_a_file_in_the_cache_that_was_spoilt_is_fetched_again(server, monkeypatch, rng):
    files, arrays = idx_files(rng)
    publish(server, monkeypatch, "MNIST", files)
    data.mnist()
    name = "train-labels-idx1-ubyte.gz"
    (download.cache() / "mnist" / name).write_bytes(b"spoilt")
    server.asked.clear()
    np.testing.assert_array_equal(data.mnist().targets, arrays["train"][1])
    assert server.asked == [name]


def refused(attempt, match):
    with pytest.raises(ValueError, match=match) as caught:
        attempt()
    text = str(caught.value)
    assert ". " not in text
    assert not text.endswith(".")
    return text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", ["gone", "cut", "no server"])
def test_a_file_that_cannot_be_fetched_is_put_where_the_sentence_says(
    server, monkeypatch, rng, fault
):
    files, arrays = idx_files(rng)
    publish(server, monkeypatch, "MNIST", files)
    server.fault = fault
    if fault == "no server":
        nowhere = download.MNIST._replace(address="http://127.0.0.1:9/files/")
        monkeypatch.setattr(download, "MNIST", nowhere)
    name = "train-images-idx3-ubyte.gz"
    text = refused(data.mnist, f"{name} cannot be fetched now; put the file")
    assert f"{download.MNIST.address}{name}" in text
    folder = download.cache() / "mnist"
    assert text.endswith(f"into the folder {folder}")
    gc.collect()  # requests leaves the socket of a connection that was cut to the collector
    folder.mkdir(parents=True, exist_ok=True)
    assert not [file for file in folder.iterdir() if file.name in files]
    for file, content in files.items():
        (folder / file).write_bytes(content)
    np.testing.assert_array_equal(data.mnist().targets, arrays["train"][1])


def test_a_file_with_another_checksum_is_refused_and_not_stored(server, monkeypatch, rng):
    publish(server, monkeypatch, "MNIST", idx_files(rng)[0])
    server.fault = "other"
    refused(data.mnist, "train-images-idx3-ubyte.gz is not the file that was published")
    assert not list((download.cache() / "mnist").iterdir())


def test_a_cache_that_cannot_be_written_is_one_sentence(server, monkeypatch, rng, tmp_path):
    publish(server, monkeypatch, "MNIST", idx_files(rng)[0])
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    refused(data.mnist, "the folder .*mnist cannot be written")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_an_unknown_subset_fetches_nothing(server, name):
    refused(lambda: getattr(data, name)(subset="valid"), "'train' and 'test', not 'valid'")
    assert not server.asked


def test_every_published_file_has_a_whole_checksum():
    for source in (download.MNIST, download.FASHION_MNIST, download.CIFAR):
        assert source.address.startswith("https://")
        assert source.address.endswith("/")
        for checksum in source.sums.values():
            algorithm, digits = checksum.split(":")
            assert len(digits) == 2 * hashlib.new(algorithm).digest_size
            assert bytes.fromhex(digits)
    sums = [*download.MNIST.sums.values(), *download.FASHION_MNIST.sums.values()]
    assert len(set(sums)) == 8
