"""The keys of a sandbox and the environment in which the engine, the program and the command line see it."""

import os
import secrets
import shlex
import sys
from pathlib import Path

from patchwave.authorization import approvals, criteria, emergency
from patchwave.config.standard import load_standard
from patchwave.evidence.chain import IDENTITY, NAMESPACE
from sandbox.config import Sandbox, write_atomically
from sandbox.lab.hosts import make_key

SUBSCRIPTION = "00000000-0000-4000-8000-000000000001"
TENANT = "00000000-0000-4000-8000-000000000002"
PEOPLE = (approvals.NAMESPACE, emergency.NAMESPACE, criteria.NAMESPACE)
AUTHOR = "rehearsal@patchwave.invalid"
_FOREIGN = ("PULUMI_", "ARM_", "AZURE_", "PATCHWAVE_", "ANSIBLE_")


def make_keys(sandbox: Sandbox) -> None:
    """The administrators', the runner's and each role holder's key, the list of signers, the passphrase; made once."""
    sandbox.keys.mkdir(mode=0o700, exist_ok=True)
    make_key(sandbox.admin_key, f"administrator of {sandbox.name}")
    make_key(sandbox.runner_key, f"runner of {sandbox.name}")
    sandbox.people.mkdir(mode=0o700, exist_ok=True)
    signers = _signer(IDENTITY, f"{NAMESPACE},{criteria.NAMESPACE}", sandbox.runner_key)
    roles = load_standard(sandbox.project).roles
    for person in sorted({person for people in roles.values() for person in people}):
        make_key(person_key(sandbox, person), f"{person} in rehearsals of {sandbox.name}")
        signers += _signer(person, ",".join(PEOPLE), person_key(sandbox, person))
    if not sandbox.allowed_signers.exists() or sandbox.allowed_signers.read_text() != signers:
        write_atomically(sandbox.allowed_signers, signers)
    passphrase = sandbox.keys / "passphrase"
    if not passphrase.exists():
        write_atomically(passphrase, secrets.token_urlsafe(24) + "\n", 0o600)


def person_key(sandbox: Sandbox, person: str) -> Path:
    """The ssh key that plays a person's in rehearsals."""
    return sandbox.people / approvals.slug(person)


def _signer(identity: str, namespaces: str, key: Path) -> str:
    kind, public = key.with_suffix(".pub").read_text().split()[:2]
    return f'{identity} namespaces="{namespaces}" {kind} {public}\n'


def emulator(sandbox: Sandbox) -> dict[str, str]:
    """How a client of Azure finds the emulator and trusts it."""
    return {
        "ARM_ENDPOINT": sandbox.endpoint,
        "ARM_SUBSCRIPTION_ID": SUBSCRIPTION,
        "ARM_TENANT_ID": TENANT,
        "ARM_USE_MSI": "true",
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": sandbox.identity,
        "REQUESTS_CA_BUNDLE": str(sandbox.ca_bundle),
    }


def variables(sandbox: Sandbox, engine: Path) -> dict[str, str]:
    """What is in `.sandbox/env`, PATH apart from what follows it included."""
    virtual = Path(sys.prefix)
    return {
        **emulator(sandbox),
        "SSL_CERT_FILE": str(sandbox.ca_bundle),
        "CURL_CA_BUNDLE": str(sandbox.ca_bundle),
        "PULUMI_BACKEND_URL": f"file://{sandbox.state}",
        "PULUMI_HOME": str(sandbox.home),
        "PULUMI_CONFIG_PASSPHRASE": (sandbox.keys / "passphrase").read_text().strip(),
        "PULUMI_SKIP_UPDATE_CHECK": "1",
        "VIRTUAL_ENV": str(virtual),
        "PATCHWAVE_AUTHOR": AUTHOR,
        "PATCHWAVE_SSH_CONFIG": str(sandbox.ssh_config),
        "PATCHWAVE_SIGNING_KEY": str(sandbox.runner_key),
        "PATCHWAVE_ALLOWED_SIGNERS": str(sandbox.allowed_signers),
        "PATH": f"{engine.parent}:{virtual / 'bin'}",
    }


def write(sandbox: Sandbox, engine: Path) -> None:
    """`.sandbox/env`, a file for `source`."""
    known = variables(sandbox, engine)
    path = known.pop("PATH")
    lines = [f"export {name}={shlex.quote(value)}" for name, value in known.items()]
    lines.append(f"export PATH={shlex.quote(path)}:$PATH")
    write_atomically(sandbox.env, "\n".join(lines) + "\n", 0o600)


def complete(sandbox: Sandbox, engine: Path) -> dict[str, str]:
    """The environment of a program that is to see the sandbox and no other Azure, Pulumi or Patchwave setting."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    known = variables(sandbox, engine)
    known["PATH"] += ":" + mine.get("PATH", "/usr/bin:/bin")
    return mine | known
