"""A Kerberos realm of its own on the loopback interface, for tests: a real KDC with one user and one host."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

REALM = "VSWITCH.TEST"
USER = f"admin@{REALM}"
PASSWORD = "S3cret-pass"

_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
_PACKAGES = {"kerberos": "pykerberos", "gssapi": "gssapi", "krb5": "krb5"}
_FOLDERS = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def missing() -> list[str]:
    """What is not installed here and needed."""
    programs = [name for name in _PROGRAMS if shutil.which(name, path=_FOLDERS) is None]
    packages = [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    return [*programs, *packages]


@contextmanager
def realm(folder: Path) -> Iterator[Mapping[str, str]]:
    """A running KDC; gives the environment in which clients and servers of the realm find it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "krb5.conf"
    config.write_text(
        f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n rdns = false\n"
        " dns_canonicalize_hostname = false\n udp_preference_limit = 1\n"
        f"[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
    )
    profile = folder / "kdc.conf"
    profile.write_text(
        f"[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n"
        f"[realms]\n {REALM} = {{\n  database_name = {folder}/principal\n  key_stash_file = {folder}/stash\n"
        f"  acl_file = {folder}/acl\n }}\n[logging]\n kdc = FILE:{folder}/kdc.log\n"
    )
    environment = {
        "KRB5_CONFIG": str(config),
        "KRB5_KDC_PROFILE": str(profile),
        "KRB5_KTNAME": f"FILE:{folder}/host.keytab",
        "KRB5CCNAME": f"FILE:{folder}/tickets",
    }

    def run(*command: str, text: str = "") -> None:
        program = shutil.which(command[0], path=_FOLDERS)
        assert program is not None
        subprocess.run(
            [program, *command[1:]],
            input=text,
            text=True,
            check=True,
            capture_output=True,
            env={**os.environ, **environment},
            timeout=30,
        )

    run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
    run("kadmin.local", "-q", f"addprinc -pw {PASSWORD} {USER}")
    run("kadmin.local", "-q", "addprinc -randkey HTTP/localhost")
    run("kadmin.local", "-q", f"ktadd -k {folder}/host.keytab HTTP/localhost")
    program = shutil.which("krb5kdc", path=_FOLDERS)
    assert program is not None
    kdc = subprocess.Popen(
        [program, "-n", "-r", REALM],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        run("kinit", USER, text=f"{PASSWORD}\n")
        yield environment
    finally:
        kdc.terminate()
        kdc.wait(10)


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the KDC does not answer")
