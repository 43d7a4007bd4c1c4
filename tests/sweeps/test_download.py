"""Downloading: whatever the server does, a file is the published one or absent."""

import resource
import shutil
import socket
import ssl
import subprocess
import time
from types import SimpleNamespace

import pytest

from sweeps import download as downloading
from sweeps.download import connect
from sweeps.errors import FetchError
from sweeps.fetch import PHYSIONET, fetch
from tests.sweeps.demo_server import (
    BIG,
    HALF,
    NAME,
    OTHER,
    PLACE,
    RELEASE,
    SMALL,
    breaks,
    content,
    endless,
    endless_chunks,
    endless_rest,
    garbage,
    get,
    hangs_up,
    left,
    partial,
    ranged,
    redirects,
    sends,
    silent,
    stalls,
    status,
    trickles,
    truncates,
    whole,
)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_broken_download_is_resumed_where_it_broke(server, out, reset):
    server.behave(breaks(HALF, reset), ranged)
    get(server, out)
    assert content(out) == RELEASE
    assert server.ranges() == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize(
    "behaviour",
    [
        whole,
        partial("bytes 0-149999/150000"),
        partial("bytes 70001-149999/150000", 70_001),
        partial("bytes 70000-149999/150001", HALF),
        partial("bytes 70000-149999/*", HALF),
        partial("items 70000-149999/150000", HALF),
        partial("bytes 9" + "9" * 5000 + "-149999/150000", HALF),
        partial(None, HALF),
        status(416),
    ],
    ids=["ignores Range", "from the start", "one byte on", "another total", "no total",
         "another unit", "huge number", "no Content-Range", "not satisfiable"],
)  # fmt: skip
def test_a_server_that_cannot_resume_sends_the_whole(server, out, behaviour):
    server.behave(breaks(HALF), behaviour, whole)
    get(server, out, attempts=2)
    assert content(out) == RELEASE
    again = [] if behaviour is whole else [None]
    assert server.ranges() == [None, f"bytes={HALF}-", *again]


def test_a_server_that_resumes_with_other_bytes_is_asked_for_the_whole(server, out):
    server.behave(breaks(HALF), shifted, whole)
    get(server, out)
    assert content(out) == RELEASE
    assert server.ranges() == [None, f"bytes={HALF}-", None]


def shifted(handler, data):
    """Says that it goes on where asked, but sends the file's beginning."""
    handler.start(206, Content_Range=f"bytes {HALF}-{len(data) - 1}/{len(data)}")
    handler.wfile.write(data[: len(data) - HALF])


def test_a_file_truncated_silently_is_completed(server, out):
    server.behave(truncates, ranged)
    get(server, out)
    assert content(out) == RELEASE
    assert server.ranges() == [None, f"bytes={HALF}-"]


FAILURES = [
    (truncates, "the connection ended after 70,000 of 150,000 bytes", HALF),
    (stalls, r"nothing came for 0\.3 s", HALF),
    (silent, r"nothing came for 0\.3 s", None),
    (hangs_up, r"no connection \(Remote end closed connection without response\)", None),
    (garbage, r"the answer is not HTTP \(BadStatusLine\)", None),
    (status(500), r"the server answers 500 \(Internal Server Error\)", None),
    (status(503), r"the server answers 503 \(Service Unavailable\)", None),
    (status(429), r"the server answers 429 \(Too Many Requests\)", None),
]


@pytest.mark.parametrize(("behaviour", "why", "kept"), FAILURES)
def test_what_may_pass_is_tried_again_with_growing_pauses_then_reported(
    server, out, monkeypatch, behaviour, why, kept
):
    pauses = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append)
    monkeypatch.setattr(downloading, "time", clock)
    monkeypatch.setattr(downloading, "_PAUSE", 1.0)
    server.behave(behaviour)
    with pytest.raises(FetchError, match=why) as raised:
        get(server, out, timeout=0.3)
    assert f"{server.url}{PLACE}{BIG}" in str(raised.value)
    assert "attempt 4 of 4" in str(raised.value)
    assert "run the same command again" in str(raised.value)
    assert pauses == [1.0, 2.0, 4.0]
    assert len(server.ranges()) == 4
    part = {} if kept is None else {f"{BIG}.part": RELEASE[BIG][:kept]}
    assert content(out) == {n: data for n, data in RELEASE.items() if n != BIG} | part


@pytest.mark.parametrize("behaviour", [row[0] for row in FAILURES])
def test_what_passes_does_no_harm(server, out, behaviour):
    server.behave(behaviour, behaviour, ranged)
    get(server, out, timeout=0.3)
    assert content(out) == RELEASE
    assert len(server.ranges()) == 3


def test_a_later_fetch_goes_on_where_the_first_gave_up(server, out):
    server.behave(breaks(HALF), ranged)
    with pytest.raises(FetchError, match="attempt 1 of 1"):
        get(server, out, attempts=1)
    get(server, out, attempts=1)
    assert content(out) == RELEASE
    assert server.ranges() == [None, f"bytes={HALF}-"]


def test_a_server_that_trickles_counts_as_stalled(server, out, monkeypatch):
    monkeypatch.setattr(downloading, "_SLOWEST", 10_000_000)  # bytes a second
    server.behave(trickles)
    started = time.monotonic()
    with pytest.raises(FetchError, match="sends less than 10,000,000 bytes a second"):
        get(server, out, timeout=0.3, attempts=1)
    assert time.monotonic() - started < 5  # it would take 20 s to the end


def test_nobody_listens(server, out):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match=r"no connection \(Connection refused\).*4 of 4"):
        get(server, out, mirror=f"http://127.0.0.1:{port}")


def test_a_proxy_is_not_asked_for_this_machine(server, out, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    get(server, out)
    assert content(out) == RELEASE


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (sends(OTHER), "its SHA-256 is"),
        (sends(OTHER, length=False), "its SHA-256 is"),
        (sends(b"<html>Log in</html>"), r"sends 19 bytes, published were 150,000"),
        (sends(RELEASE[BIG] + b"\n"), "sends 150,001 bytes, published were 150,000"),
        (sends(RELEASE[BIG] + b"\n", length=False), "sends more than 150,000 bytes"),
        (sends(b""), "sends 0 bytes, published were 150,000"),
        (endless, "sends more than 150,000 bytes"),
        (endless_chunks, "sends more than 150,000 bytes"),
        (status(404), r"answers 404 \(Not Found\)"),
        (status(403), r"answers 403 \(Forbidden\)"),
        (status(401), r"answers 401 \(Unauthorized\)"),
        (status(799), r"answers 799 \(no known status\)"),
        (partial("bytes 0-149999/150000"), r"answers 206 \(Partial Content\)"),
    ],
    ids=["lies", "lies without length", "a login page", "a byte more", "a byte more unsaid",
         "empty", "endless", "endless chunks", "404", "403", "401", "799", "206 unasked"],
)  # fmt: skip
def test_what_cannot_pass_is_refused_at_once_and_leaves_nothing(server, out, behaviour, why):
    server.behave(behaviour)
    with pytest.raises(FetchError, match=why) as raised:
        get(server, out)
    assert f"{server.url}{PLACE}{BIG}" in str(raised.value)
    assert len(server.ranges()) == 1
    assert content(out) == {name: data for name, data in RELEASE.items() if name != BIG}


def test_an_endless_rest_is_cut_off_too(server, out):
    part = left(out, RELEASE[BIG][:HALF])
    server.behave(endless_rest)
    with pytest.raises(FetchError, match="sends more than 150,000 bytes"):
        get(server, out)
    assert not part.exists()
    assert not (out / BIG).exists()


class resource_limit:  # noqa: N801  a context manager, used as a function
    """Files of this process may not grow beyond so many bytes, as on a full disk."""

    def __init__(self, size):
        self.size, self.limits = size, resource.getrlimit(resource.RLIMIT_FSIZE)

    def __enter__(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.limits[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)


def test_no_more_is_written_than_was_published(server, out, monkeypatch):
    monkeypatch.setattr(downloading, "_BLOCK", 1 << 20)  # more than the file has
    server.behave(endless)
    with resource_limit(len(RELEASE[BIG])), pytest.raises(FetchError, match="more than 150,000"):
        get(server, out)


def test_follows_redirects_on_the_same_terms(server, out):
    server.files["/moved/a file é"] = RELEASE[BIG]
    server.files["/moved/a%20file%20%E9"] = RELEASE[BIG]
    server.behave(redirects("/moved/a file \u00e9"))
    get(server, out)
    assert content(out) == RELEASE


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/hostname",
        "ftp://127.0.0.1/x",
        "data:text/plain,x",
        "http://physionet.example/x",
        "http://localhost.physionet.example/x",
        "http://10.0.0.1/x",
        "https://user:secret@physionet.example/x",
        "https:///x",
        "http://[::1/x",
        "http://127.0.0.1:99999/x",
    ],
)
def test_a_redirect_to_a_foreign_place_is_refused_at_once(server, out, target):
    server.behave(redirects(target))
    with pytest.raises(FetchError, match=r"must be https|no address"):
        get(server, out)
    assert len(server.ranges()) == 1
    assert not (out / BIG).exists()


@pytest.mark.parametrize("target", ["", PLACE + BIG], ids=["nowhere", "itself"])
def test_a_redirect_in_a_circle_ends(server, out, target):
    server.behave(redirects(target))
    with pytest.raises(FetchError, match="redirects more than 5 times"):
        get(server, out)
    assert len(server.ranges()) == 6


@pytest.mark.parametrize(
    "mirror",
    [
        "http://physionet.org/files",
        "http://127.0.0.1.example/files",
        "http://192.168.0.1/files",
        "http://user@127.0.0.1/files",
        "ftp://127.0.0.1/files",
        "file:///srv/files",
        "physionet.org/files",
        "/srv/files",
        "",
        "https://",
        "https://[::1/",
        "https://physionet.org:port/",
        "https://physionet.org/files?x=",
        "https://physionet.org/files#x",
    ],
)
def test_a_mirror_is_https_or_on_this_machine(out, mirror):
    with pytest.raises(FetchError, match=r"must be https|no address|address of a folder"):
        fetch(NAME, out, mirror=mirror)
    assert not out.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.9.1", "[::1]"])
def test_loopback_may_be_http(host):
    assert connect(f"http://{host}:80/files/", 1, 1).base == f"http://{host}:80/files"


def test_without_a_mirror_it_is_physionet_over_https():
    server = connect(PHYSIONET, 1, 1)
    assert (server.base, server.plain) == ("https://physionet.org/files", False)


@pytest.fixture
def secure(server, tmp_path):
    """The same server behind TLS; `certificate` is what a client must trust."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=test",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return SimpleNamespace(
        url=f"https://127.0.0.1:{server.server_port}", certificate=certificate, server=server
    )


def test_a_certificate_that_is_not_trusted_ends_it_at_once(secure, out):
    started = time.monotonic()
    with pytest.raises(FetchError, match=r"certificate is not trusted \(.*SSL_CERT_FILE"):
        get(secure, out)
    assert time.monotonic() - started < 2
    assert secure.server.requests == []


def test_a_secure_mirror_is_resumed_and_never_left_for_plain_http(secure, out, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.certificate))
    secure.server.behave(breaks(HALF), ranged)
    get(secure, out)
    assert content(out) == RELEASE
    (out / SMALL).unlink()
    secure.server.behave(redirects(f"http://127.0.0.1:{secure.server.server_port}/"), name=SMALL)
    with pytest.raises(FetchError, match="must be https"):
        get(secure, out)


def test_the_part_of_an_earlier_run_is_resumed(server, out):
    left(out, RELEASE[BIG][:HALF])
    get(server, out)
    assert content(out) == RELEASE
    assert server.ranges() == [f"bytes={HALF}-"]


def test_a_part_that_is_complete_only_gets_its_name(server, out):
    left(out, RELEASE[BIG])
    get(server, out)
    assert content(out) == RELEASE
    assert server.ranges() == []


@pytest.mark.parametrize(
    ("part", "ranges"),
    [
        (OTHER[:HALF], [f"bytes={HALF}-", None]),
        (OTHER, [None]),
        (RELEASE[BIG] + b"\n", [None]),
        (b"", [None]),
    ],
    ids=["no beginning", "complete but wrong", "longer", "empty"],
)
def test_a_part_that_does_not_fit_is_discarded(server, out, part, ranges):
    left(out, part)
    get(server, out)
    assert content(out) == RELEASE
    assert server.ranges() == ranges


def test_a_part_that_is_a_link_is_not_written_through(server, out, tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    part = left(out, b"")
    part.unlink()
    part.symlink_to(precious)
    get(server, out)
    assert content(out) == RELEASE
    assert precious.read_bytes() == b"mine"


def test_a_part_that_is_a_folder_is_refused(server, out):
    (out / f"{BIG}.part").mkdir(parents=True)
    with pytest.raises(FetchError, match=r"Cannot read or write .*csv\.gz\.part"):
        get(server, out)


def test_a_full_disk_is_an_error_message_and_later_resumed(server, out):
    with resource_limit(100_000), pytest.raises(FetchError, match=r"File too large.*Free space"):
        get(server, out)
    assert not (out / BIG).exists()
    get(server, out)
    assert content(out) == RELEASE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timeout": 0}, "`timeout` must be in .*timeout=0"),
        ({"timeout": float("nan")}, "`timeout` must be in .*timeout=nan"),
        ({"timeout": float("inf")}, "`timeout` must be in .*timeout=inf"),
        ({"attempts": 0}, "`attempts` must be at least 1, but got attempts=0"),
    ],
)
def test_settings_out_of_range(server, out, changes, message):
    with pytest.raises(FetchError, match=message):
        get(server, out, **changes)
