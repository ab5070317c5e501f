"""``faceblur serve``."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from collections.abc import Iterable

import click

from faceblur_core.errors import FaceblurError, UsageMistake

NEW = "new"
SHORTEST_TOKEN = 16


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on. Any but this machine's own needs --token."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free.")
@click.option(
    "--token", envvar="FACEBLUR_TOKEN", help="Ask clients for this text, 16 letters or more; 'new' makes one and prints it."
)
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A name that the server is reached by. Repeatable.")
@click.option("-m", "--method", "methods", multiple=True, help="Offer only this detector, whole method or file. Repeatable.")
@click.option("--workers", type=click.IntRange(1, 64), help="Photos in work at a time. Default: one per core, at most 4.")
@click.option("--queue", "waiting", type=click.IntRange(1, 1000), default=16, show_default=True, help="Photos that may wait.")
@click.option("--max-megabytes", type=click.IntRange(1, 1000), default=32, show_default=True, help="Refuse larger uploads.")
@click.option("--max-megapixels", type=click.IntRange(1, 1000), default=50, show_default=True, help="Refuse larger photos.")
@click.option(
    "--max-video-megabytes", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Refuse larger videos."
)
@click.option("--max-minutes", type=click.IntRange(1, 1000), default=10, show_default=True, help="Refuse longer videos.")
@click.option("--jobs", type=click.IntRange(1, 100), default=8, show_default=True, help="Videos at a time; one is in work.")
@click.option("--patience", type=click.IntRange(1, 3600), default=20, show_default=True, help="Seconds for slow clients.")
def serve(
    host: str,
    port: int,
    token: str | None,
    hosts: tuple[str, ...],
    methods: tuple[str, ...],
    workers: int | None,
    waiting: int,
    max_megabytes: int,
    max_megapixels: int,
    max_video_megabytes: int,
    max_minutes: int,
    jobs: int,
    patience: int,
) -> None:
    """Serve a web page and a REST API that anonymize photos and videos.

    Photos stay in memory and are forgotten when they are answered. Videos lie in files without a name until a minute after
    they are fetched, in the folder that TMPDIR names. Nothing else is written, no picture and no name is logged.

    \b
    faceblur serve                               # http://127.0.0.1:8000, for this machine alone
    faceblur serve --host 0.0.0.0 --token new    # for others, who need the token
    """
    from faceblur_web.allowed import Catalogue
    from faceblur_web.app import make_app
    from faceblur_web.limits import Limits
    from faceblur_web.private import check_folder, leave_no_core

    leave_no_core()
    token = _token(token, host)
    catalogue = Catalogue(frozenset(methods) or None)
    catalogue.check()
    limits = Limits(
        megabytes=max_megabytes,
        megapixels=max_megapixels,
        patience=patience,
        video_megabytes=max_video_megabytes,
        video_minutes=max_minutes,
        jobs=jobs,
    )
    check_folder()
    app = make_app(
        catalogue,
        limits,
        workers=workers or min(4, os.cpu_count() or 1),
        waiting=waiting,
        hosts=_names(hosts) | {host.lower()},
        token=token,
    )
    with _listen(host, port) as listener:
        click.echo(f"faceblur serves {_address(host, listener)}/{f'#token={token}' if token else ''}")
        click.echo("Ctrl-C ends it.")
        _run(app, listener, limits.patience)


def _run(app: object, listener: socket.socket, patience: float) -> None:
    import uvicorn

    from faceblur_web.protocol import impatient

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=impatient(patience),
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="error",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _token(token: str | None, host: str) -> str | None:
    """Return the token to ask for, a new one if that is wanted.

    :raises UsageMistake: if the interface needs one and none is given, or it is too short
    """
    if token == NEW:
        return secrets.token_urlsafe(24)
    if not token:
        if not _loopback(host):
            raise UsageMistake(f"--host {host} is open to other machines and needs --token (--token new makes one)")
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageMistake(f"--token needs {SHORTEST_TOKEN} letters or more, ASCII without spaces; --token new makes one")
    return token


def _names(hosts: Iterable[str]) -> frozenset[str]:
    """Return the names that the server is reached by, in small letters. :raises UsageMistake: if one is more than a name"""
    from faceblur_web.guard import host_name

    for name in hosts:
        if host_name(name) != name.lower():
            raise UsageMistake(f"--allow-host takes a name alone, such as faces.example, not {name!r}")
    return frozenset(name.lower() for name in hosts)


def _loopback(host: str) -> bool:
    """Return whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise FaceblurError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None


def _address(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
