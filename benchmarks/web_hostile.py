"""A server under random and malicious requests: what it answers, and its memory and open files before and after.

Usage: python benchmarks/web_hostile.py [REQUESTS]; 10,000 unless told. 50 clients at a time send photos and videos that are cut
off, spoilt, of several kinds at once, too large, with paths in place of names, and questions about jobs that there are not; now
and then one is slow or leaves in the middle of it. Meanwhile another client wants its photo hidden. Exit code 1 if there was a
5xx that is not 503 with Retry-After, a file left, or the other client got nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import hostile
import httpx
from skimage import data

import photos

CLIENTS = 50
PHOTO = photos.encoded(data.astronaut(), "JPEG")
OPTIONS = [
    "--workers=2",
    "--queue=8",
    "--jobs=4",
    "--patience=5",
    "--max-megabytes=8",
    "--max-video-megabytes=8",
    "--max-megapixels=4",
]


class Server:
    """``faceblur serve`` with a folder of its own for what is temporary."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "faceblur_core", "serve", "--port", "0", *OPTIONS]
        self.folder = folder
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(folder)})
        assert self.process.stdout is not None
        self.url = re.findall(r"http://[\w.:]+", self.process.stdout.readline())[0]

    def state(self) -> dict[str, int]:
        """Memory in MB, open files, named files left in its folder, child processes."""
        process = Path(f"/proc/{self.process.pid}")
        children = (process / "task" / str(self.process.pid) / "children").read_text().split()
        return {
            "memory_mb": int(re.findall(r"VmRSS:\s+(\d+)", (process / "status").read_text())[0]) // 1024,
            "open_files": len(os.listdir(process / "fd")),
            "files": sum(path.is_file() and path.name != ".lock" for path in self.folder.rglob("*")),
            "children": len(children),
        }


def one(url: str, number: int) -> str:
    """Send one request; return what came of it."""
    chance = random.Random(number)
    try:
        if number % 100 == 0:
            return _slow(url, chance)
        with httpx.Client(base_url=url, timeout=120) as client:
            if number % 500 == 1:
                what, size = chance.choice([("anonymize", 9_000_000), ("jobs", 9_000_000)])
                return _told(client.post(f"/v1/{what}?method=yunet", content=bytes(size)))
            verb, path, query, body = hostile.request(chance)
            answer = client.request(verb, path, params=query, content=body)
            if answer.status_code == 202 and chance.random() < 0.5:
                client.delete(answer.headers["location"])
            return _told(answer)
    except httpx.TransportError as error:
        return type(error).__name__


def _told(answer: httpx.Response) -> str:
    code = str(answer.status_code)
    return f"{code} without Retry-After" if code == "503" and "retry-after" not in answer.headers else code


def _slow(url: str, chance: random.Random) -> str:
    """Begin a request and never end it: leave at once, or wait until the server has had enough."""
    host, _, port = url.rpartition("/")[2].partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=30) as client:
        path = chance.choice(["anonymize", "jobs"])
        client.sendall(f"POST /v1/{path}?method=yunet HTTP/1.1\r\nHost: {host}\r\n".encode())
        if chance.random() < 0.5:
            client.sendall(b"Content-Length: 100000\r\n\r\nabc")
        if chance.random() < 0.5:
            return "left"
        head = client.recv(4096).decode("latin-1").lower()
        without = " without Retry-After" if " 503 " in head[:13] and "retry-after:" not in head else ""
        return f"{head[9:12] or 'closed'}{without} after waiting"
    return "dropped"


@contextlib.contextmanager
def other_client(url: str) -> Iterator[Counter[str]]:
    """Ask for one photo after the other meanwhile; yields how often it got which answer."""
    answers: Counter[str] = Counter()
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            answers[_told(httpx.post(f"{url}/v1/anonymize?method=yunet", content=PHOTO, timeout=120))] += 1
            time.sleep(0.2)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


def settled(server: Server) -> dict[str, int]:
    """Give up the jobs that are left by letting them be done, and wait until nothing changes any more."""
    for _ in range(60):
        before = server.state()
        time.sleep(3)
        if before["children"] == 0 and server.state()["open_files"] == before["open_files"]:
            break
    return server.state()


def main(requests: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            httpx.post(f"{server.url}/v1/anonymize?method=yunet", content=PHOTO, timeout=120, headers={"connection": "close"})
            before, started = settled(server), time.monotonic()
            with other_client(server.url) as served, ThreadPoolExecutor(CLIENTS) as pool:
                answers = Counter(pool.map(lambda number: one(server.url, number), range(requests // 2)))
                half = server.state()
                answers += Counter(pool.map(lambda number: one(server.url, number), range(requests // 2, requests)))
            seconds, after = time.monotonic() - started, settled(server)
        finally:
            server.process.terminate()
            server.process.wait(timeout=60)
        left = list(Path(folder).iterdir())
    for what, number in sorted(answers.items()):
        print(f"{number:6d}  {what}")
    print(f"{requests} requests in {seconds:.0f} s; the other client: {dict(served)}")
    print(f"before: {before}\nhalf:   {half}\nafter:  {after}\nleft when the server had ended: {len(left)}")
    bad = [what for what in answers if what[0] == "5" and (what[:3] != "503" or "without" in what)]
    return int(bool(bad) or bool(left) or not served["200"] or after["files"] > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
