"""A small release, and a server of it that can misbehave."""

import csv
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from sweeps.fetch import fetch

NAME, PLACE = "mimic-iv-demo", "/mimic-iv-demo/2.2/"
BIG, SMALL = "hosp/prescriptions.csv.gz", "LICENSE.txt"
RELEASE = {
    SMALL: b"Open Data Commons, as it were\n",
    "hosp/patients.csv.gz": np.random.default_rng(1).bytes(3_000),
    BIG: np.random.default_rng(2).bytes(150_000),
}
HALF = 70_000
OTHER = bytes(len(RELEASE[BIG]))


class Handler(BaseHTTPRequestHandler):
    """Answers as the next behaviour of that path says; without one, as a good server."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        queue = self.server.behaviours.get(self.path, [])
        behave = queue.pop(0) if len(queue) > 1 else queue[0] if queue else ranged
        data = self.server.files.get(self.path)
        if data is None:
            status(404)(self, b"")
        else:
            behave(self, data)

    def start(self, code, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {PLACE + name: data for name, data in RELEASE.items()}
        self.behaviours, self.requests, self.released = {}, [], threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def behave(self, *behaviours, name=BIG):
        """The first request for the file meets the first behaviour; the last one stays."""
        self.behaviours[PLACE + name] = list(behaviours)

    def ranges(self, name=BIG):
        """What was asked of the file, request by request: a Range header, or None."""
        return [asked for path, asked in self.requests if path == PLACE + name]

    def handle_error(self, *_):  # the client hung up, as it should
        pass


def whole(handler, data):
    handler.start(200, Content_Length=len(data))
    handler.wfile.write(data)


def ranged(handler, data):
    asked = handler.headers.get("Range")
    if asked is None:
        whole(handler, data)
        return
    begin = int(asked.removeprefix("bytes=").removesuffix("-"))
    size = len(data)
    handler.start(
        206, Content_Length=size - begin, Content_Range=f"bytes {begin}-{size - 1}/{size}"
    )
    handler.wfile.write(data[begin:])


def breaks(size, reset=False):
    """Promises the whole, sends so many bytes and hangs up, politely or not."""

    def behave(handler, data):
        handler.start(200, Content_Length=len(data))
        handler.wfile.write(data[:size])
        if reset:
            handler.wfile.flush()
            time.sleep(0.1)  # or the reset overtakes the bytes
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return behave


def stalls(handler, data):
    handler.start(200, Content_Length=len(data))
    handler.wfile.write(data[:HALF])
    handler.server.released.wait(30)


def silent(handler, _):
    handler.server.released.wait(30)


def truncates(handler, data):
    """Sends half of it, and says neither before nor after how much it should have been."""
    handler.start(200)
    handler.wfile.write(data[:HALF])


def sends(data, length=True):
    def behave(handler, _):
        handler.start(200, **({"Content_Length": len(data)} if length else {}))
        handler.wfile.write(data)

    return behave


def partial(content_range, shift=0):
    """Answers 206, whatever that has to do with what was asked."""

    def behave(handler, data):
        handler.start(206, **({"Content_Range": content_range} if content_range else {}))
        handler.wfile.write(data[shift:])

    return behave


def endless(handler, _):
    handler.start(200)
    while not handler.server.released.is_set():
        handler.wfile.write(bytes(1 << 16))


def endless_chunks(handler, _):
    handler.protocol_version = "HTTP/1.1"
    handler.start(200, Transfer_Encoding="chunked")
    while not handler.server.released.is_set():
        handler.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")


def endless_rest(handler, data):
    begin = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    handler.start(206, Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")
    while not handler.server.released.is_set():
        handler.wfile.write(bytes(1 << 16))


def trickles(handler, data):
    handler.start(200, Content_Length=len(data))
    for byte in data[:1000]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.02)


def status(code):
    def behave(handler, _):
        handler.start(code, Content_Length=4)
        handler.wfile.write(b"oops")

    return behave


def redirects(target):
    def behave(handler, _):
        handler.start(302, Location=target)

    return behave


def garbage(handler, _):
    handler.wfile.write(b"220 smtp.example ready\r\n")


def hangs_up(handler, _):
    handler.close_connection = True


class running:  # noqa: N801  a context manager, used as a function
    def __init__(self, server):
        self.server = server
        self.thread = threading.Thread(target=server.serve_forever, args=(0.01,))

    def __enter__(self):
        self.thread.start()
        return self.server

    def __exit__(self, *_):
        self.server.released.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def write_list(path, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "sha256", "bytes"], *rows])
    return path


def get(server, out, **changes):
    return fetch(NAME, out, **{"mirror": server.url, "timeout": 5.0} | changes)


def content(out):
    """Every file below a folder, hidden ones too."""
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def left(out, part):
    """Lays the part file of an earlier run."""
    path = out / f"{BIG}.part"
    path.parent.mkdir(parents=True)
    path.write_bytes(part)
    return path
