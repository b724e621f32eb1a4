"""The sandbox's own certificate authority: made once, and trusted only through the sandbox's CA bundle."""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi
import trustme

from sandbox.config import Sandbox, write_atomically


def prepare(sandbox: Sandbox) -> None:
    """Writes ca.pem, ca-bundle.pem, tls.pem and tls.key unless they are there."""
    wanted = (sandbox.ca, sandbox.ca_bundle, sandbox.tls_certificate, sandbox.tls_key)
    if all(path.exists() for path in wanted):
        return
    authority = trustme.CA(organization_name="Patchwave sandbox")
    issued = authority.issue_cert(sandbox.loopback, "localhost", common_name="Patchwave sandbox")
    write_atomically(sandbox.tls_key, issued.private_key_pem.bytes().decode(), 0o600)
    chain = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)
    write_atomically(sandbox.tls_certificate, chain)
    own = authority.cert_pem.bytes().decode()
    write_atomically(sandbox.ca, own)
    write_atomically(sandbox.ca_bundle, _system() + "\n" + own)


def _system() -> str:
    found = ssl.get_default_verify_paths().cafile
    path = Path(found) if found and Path(found).exists() else Path(certifi.where())
    return path.read_text()
