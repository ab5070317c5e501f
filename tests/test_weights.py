"""Model files: found, checked, downloaded, or asked for in one line."""

import functools
import hashlib
import http.server
import threading
from types import SimpleNamespace

import pytest

from faceblur_core import testing
from faceblur_core.errors import MissingWeights, UnknownName
from faceblur_core.hookspecs import Component, Weights
from faceblur_core.machine import UMASK
from faceblur_core.weights import checksums, locate, present, sha256_of, weights_file

BODY = b"a network" * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(tmp_path):
    """A web server on this machine that has the file."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "net.bin").write_bytes(BODY)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}/net.bin"
        made.shutdown()


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """No models folder, an empty cache, network allowed."""
    monkeypatch.delenv("FACEBLUR_MODELS", raising=False)
    monkeypatch.delenv("FACEBLUR_OFFLINE", raising=False)
    monkeypatch.setenv("FACEBLUR_CACHE", str(tmp_path / "cache"))


def net(url=None, digest=DIGEST, **more):
    return Weights(file="net.bin", sha256=(digest,), licence="Apache-2.0", size=len(BODY), url=url, **more)


def test_a_download_is_kept_and_its_licence_printed(server, empty, tmp_path, capsys):
    path = locate(net(server))
    assert path == tmp_path / "cache" / "net.bin" and path.read_bytes() == BODY
    assert path.stat().st_mode & 0o777 == 0o666 & ~UMASK  # a container's user is not the one who downloads
    assert "downloading net.bin (0.0 MB, licence Apache-2.0)" in capsys.readouterr().err
    locate(net("http://127.0.0.1:9/gone"))
    assert capsys.readouterr().err == ""


def test_the_local_folder_comes_first(empty, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.bin").write_bytes(BODY)
    monkeypatch.setenv("FACEBLUR_MODELS", str(tmp_path / "models"))
    assert locate(net("http://127.0.0.1:9/gone")).parent == tmp_path / "models"


def test_a_file_by_its_name_in_the_local_folder(empty, tmp_path, monkeypatch):
    models = tmp_path / "models"
    models.mkdir()
    (models / "own.bin").write_bytes(BODY)
    for name in ("own.bin", ""):
        with pytest.raises(UnknownName):
            weights_file(name, {"net": net()}, "weights")
    monkeypatch.setenv("FACEBLUR_MODELS", str(models))
    assert weights_file("own.bin", {"net": net()}, "weights") == models / "own.bin"
    with pytest.raises(UnknownName):
        weights_file("", {"net": net()}, "weights")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.bin").touch()
    assert not weights_file("own.bin", {}, "weights").read_bytes()


def test_a_download_with_another_checksum_is_not_used(server, empty, tmp_path):
    with pytest.raises(MissingWeights, match="what came has another checksum"):
        locate(net(server, digest="0" * 64))
    assert present(net()) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/net.bin", None])
def test_without_a_network_one_line_says_which_file_to_put_where(empty, tmp_path, monkeypatch, url):
    with pytest.raises(MissingWeights, match="put net.bin into a folder and set FACEBLUR_MODELS to it") as caught:
        locate(net(url, source="it comes with the moon"))
    assert "\n" not in caught.value.message
    monkeypatch.setenv("FACEBLUR_MODELS", str(tmp_path))
    with pytest.raises(MissingWeights, match=f"put net.bin into {tmp_path}"):
        locate(net(url))


def test_offline_means_no_attempt(server, empty, monkeypatch):
    monkeypatch.setenv("FACEBLUR_OFFLINE", "1")
    with pytest.raises(MissingWeights, match="FACEBLUR_OFFLINE is set"):
        locate(net(server))


def test_a_changed_local_file_is_refused(empty, tmp_path, monkeypatch):
    (tmp_path / "net.bin").write_bytes(BODY + b"x")
    monkeypatch.setenv("FACEBLUR_MODELS", str(tmp_path))
    with pytest.raises(MissingWeights, match="is not the file that is expected"):
        locate(net())
    (tmp_path / "net.bin").write_bytes(BODY)
    assert sha256_of(locate(net())) == DIGEST
    assert checksums([locate(net())]) == {locate(net()).name: DIGEST}


def test_missing_weights_show_in_the_list_and_end_a_run_in_one_line(cli, empty, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEBLUR_OFFLINE", "1")
    assert "yunet.onnx (Apache-2.0, missing)" in cli("methods").out
    (tmp_path / "a.png").write_bytes(b"x")
    result = cli("run", "-m", "yunet", tmp_path / "a.png", "-o", tmp_path / "out")
    assert result.code == 1 and "model file yunet.onnx is missing" in result.err and result.err.count("\n") == 1


@pytest.fixture
def shipped(empty, tmp_path, monkeypatch):
    """The folder of model files in a package."""
    folder = tmp_path / "shippingplug" / "weights"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "net.bin").write_bytes(BODY)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_the_contract_compares_what_ships_with_its_record(shipped, monkeypatch):
    def outcome(**said):
        component = Component(name="x", summary="x", licence="MIT", factory="x:X", weights=(net(package="shippingplug", **said),))
        monkeypatch.setattr(
            testing, "installed_plugins", lambda: SimpleNamespace(get=lambda *_: SimpleNamespace(component=component))
        )
        try:
            testing.DetectorContract().test_weights_that_ship_are_those_of_the_record()
        except AssertionError as error:
            return str(error)
        return ""

    assert outcome() == ""
    assert "which its record does not name" in outcome(digest="0" * 64)
    (shipped / "net.bin").write_bytes(BODY + b"x")
    assert "has 9001 bytes; its record says 9000" in outcome()
    (shipped / "net.bin").unlink()
    assert "is missing" in outcome()


def test_a_file_that_ships_in_a_package_is_found_and_checked(shipped, tmp_path, monkeypatch):
    folder = shipped
    assert locate(net(package="shippingplug")) == folder / "net.bin"
    with pytest.raises(MissingWeights, match="is not the file that is expected"):
        locate(net(package="shippingplug", digest="0" * 64))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.bin").write_bytes(BODY)
    monkeypatch.setenv("FACEBLUR_MODELS", str(tmp_path / "models"))
    assert locate(net(package="shippingplug")).parent == tmp_path / "models"
    assert present(net(package="no_such_package_here")) is not None
