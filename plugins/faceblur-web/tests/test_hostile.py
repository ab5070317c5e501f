"""A real server against clients that mean it no good: it answers 4xx, or 503 with Retry-After, and lives on."""

import concurrent.futures
import contextlib
import os
import random
import resource
import socket
import time
import zlib

import hostile
import httpx
import numpy as np
import pytest
from skimage import data

import photos

REQUESTS = int(os.environ.get("FACEBLUR_WEB_REQUESTS", "400"))  #: how many of the random ones
JPEG = photos.encoded(data.astronaut(), "JPEG")
HEAD = b"POST /v1/anonymize?method=yunet HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def small(start_server):
    """A server with little room and little patience."""
    running = start_server("--workers=1", "--queue=3", "--patience=3", "--max-megabytes=8", "--max-megapixels=4", "--jobs=4")
    httpx.post(f"{running.url}/v1/anonymize?method=yunet", content=JPEG, timeout=60, headers={"connection": "close"})
    return running


@pytest.fixture(scope="module")
def quiet(small):
    """The number of files that the server has open when its model is loaded and nobody is there."""
    time.sleep(1)
    return small.open_files()


def fits(answer):
    """Return whether the answer is allowed whatever the request was."""
    return answer.status_code < 500 or (answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1)


def settled(server, most, seconds=30.0):
    """Wait until the server has no more than so many files and sockets open."""
    end = time.monotonic() + seconds
    while server.open_files() > most and time.monotonic() < end:
        time.sleep(0.1)
    return server.open_files() <= most


def test_random_requests_harm_nothing(small, quiet):
    chance = random.Random(0)
    memory_before, jobs = None, []
    with httpx.Client(base_url=small.url, timeout=60) as client:
        for number in range(REQUESTS):
            verb, path, query, body = hostile.request(chance)
            answer = client.request(verb, path, params=query, content=body)
            assert fits(answer), (number, answer.status_code, answer.text)
            if answer.status_code not in (200, 202):
                assert list(answer.json()) == ["error"]
            if answer.status_code == 202:
                jobs.append(answer.headers["location"])
            if jobs and chance.random() < 0.5:
                client.delete(jobs.pop())
            memory_before = small.memory() if number == REQUESTS // 4 else memory_before
        assert {client.delete(job).status_code for job in jobs} <= {204}
        assert client.post("/v1/anonymize?method=yunet", content=JPEG).headers["faceblur-faces"] == "1"
    assert small.memory() - memory_before < 150e6
    assert [path for path in small.left_behind() if path.is_file() and path.name != ".lock"] == []
    assert settled(small, quiet)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 99999999999999999999999999\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET http://evil.example/v1/methods HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=range(12),
)
def test_what_is_hardly_http_gets_no_more_than_a_4xx(small, request_bytes):
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as client:
        client.sendall(request_bytes)
        try:
            answer = client.recv(100)
        except ConnectionResetError:  # cut off while it was still sending
            return
    assert answer == b"" or answer.split()[1][:1] in b"24"


def test_a_large_upload_is_told_why_it_is_refused(small):
    answer = httpx.post(f"{small.url}/v1/anonymize?method=yunet", content=bytes(20_000_000), timeout=60)
    assert answer.status_code == 413 and answer.json() == {"error": "the photo is larger than 8 megabytes"}


def test_fifty_clients_at_once_are_served_or_told_when_to_come_again(small):
    def one(_):
        return httpx.post(f"{small.url}/v1/anonymize?method=yunet", content=JPEG, timeout=60)

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(one, range(150)))
    assert all(fits(answer) for answer in answers)
    served = [answer.content for answer in answers if answer.status_code == 200]
    assert len(served) >= 4 and len(set(served)) == 1
    assert any(answer.status_code == 503 for answer in answers)
    assert small.memory() < 2e9


def test_slow_clients_keep_nobody_waiting_and_are_dropped(small, quiet):
    """Some never end their header, some trickle a body, some go away in the middle; others are served meanwhile."""
    slow = [socket.create_connection(("127.0.0.1", small.port), timeout=20) for _ in range(60)]
    for number, client in enumerate(slow):
        head = HEAD if number % 3 == 0 else HEAD + b"Content-Length: 1000000\r\n\r\n" + b"\xff\xd8"
        client.sendall(head)
        if number % 3 == 2:
            client.close()
    answer = httpx.post(f"{small.url}/v1/anonymize?method=yunet", content=JPEG, timeout=60)
    assert answer.status_code == 200
    assert settled(small, quiet)
    told = [client.recv(1000) for client in slow[1::3]]
    assert all(b" 408 " in text.split(b"\r\n")[0] for text in told)
    for client in slow:
        client.close()


def test_a_body_that_trickles_in_is_given_up(small):
    """Each byte comes in time, all of them would take hours."""
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as client:
        client.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
        client.settimeout(1)
        answer, end = b"", time.monotonic() + 30
        while not answer and time.monotonic() < end:
            client.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = client.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_clients_that_do_not_take_their_answer_are_dropped(small, quiet):
    noise = photos.encoded(np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), np.uint8), "PNG", compress_level=0)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", small.port))
        client.sendall(HEAD + f"Content-Length: {len(noise)}\r\n\r\n".encode() + noise)
        assert client.recv(12) == b"HTTP/1.1 200" and small.open_files() > quiet
        assert settled(small, quiet)


def test_a_client_that_leaves_gives_its_place_away(small):
    """Ten that ask and leave at once do not fill a queue of three for whoever comes then."""
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", small.port)) as client:
            client.sendall(HEAD + f"Content-Length: {len(JPEG)}\r\n\r\n".encode() + JPEG)
    end = time.monotonic() + 30
    while (answer := httpx.post(f"{small.url}/v1/anonymize?method=yunet", content=JPEG, timeout=60)).status_code == 503:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert answer.status_code == 200


def test_pictures_made_to_swell_take_no_memory(small):
    """Small files that say they are huge, or are, when unpacked."""
    before = small.memory()
    zeros = zlib.compress(bytes(2_000 * 1_999 * 3 + 2_000))
    bodies = [
        photos.png_bomb(),
        photos.png_bomb(2_100, 2_100),
        photos.encoded(np.zeros((1_990, 2_000, 3), np.uint8), "PNG"),
        zeros,
    ]
    for body in bodies * 3:
        assert fits(httpx.post(f"{small.url}/v1/anonymize?method=yunet", content=body, timeout=60))
    assert small.memory() - before < 300e6


def test_a_crash_leaves_no_core_file_with_photos(cores, start_server):
    assert resource.prlimit(start_server("--method=haar").process.pid, resource.RLIMIT_CORE) == (0, 0)


def test_the_log_says_nothing_of_photos(small):
    httpx.post(f"{small.url}/v1/anonymize?method=secret-name", content=b"secret-photo", timeout=60)
    assert "secret" not in small.log()
