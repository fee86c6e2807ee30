"""What a broker needs for demanding TLS and SASL, made by openssl: a CA, its certificates, users."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from attrs import frozen

from tests.kafka.cluster import Listener
from tests.kafka.jars import BrokerUnavailableError

USER = "alice"
PLAIN_PASSWORD = "plain-s3cret-hunter2"
SCRAM_PASSWORD = "scram-s3cret-hunter2"
KEY_PASSWORD = "key-s3cret-hunter2"

LISTENERS = (Listener("SASL", "SASL_SSL"), Listener("MTLS", "SSL"))


@frozen
class Security:
    """Files of a CA of its own.

    Attributes:
        ca: The CA's certificate.
        broker: The broker's key and certificate for 127.0.0.1.
        client: A client's certificate.
        client_key: Its key, encrypted.
    """

    ca: Path
    broker: Path
    client: Path
    client_key: Path

    @property
    def broker_config(self) -> dict[str, str]:
        """Settings of a broker with `LISTENERS`: SASL over TLS by one, certificates of clients by the other."""
        module = "org.apache.kafka.common.security"
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.broker),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca),
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.sasl.plain.sasl.jaas.config": (
                f'{module}.plain.PlainLoginModule required user_{USER}="{PLAIN_PASSWORD}";'
            ),
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        }

    @property
    def plain(self) -> dict[str, str]:
        """A client's settings: SASL PLAIN over TLS."""
        return self._sasl("PLAIN", PLAIN_PASSWORD)

    @property
    def scram(self) -> dict[str, str]:
        """A client's settings: SASL SCRAM over TLS."""
        return self._sasl("SCRAM-SHA-512", SCRAM_PASSWORD)

    @property
    def certificate(self) -> dict[str, str]:
        """A client's settings: TLS with a certificate of its own."""
        return {
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.ca),
            "ssl.certificate.location": str(self.client),
            "ssl.key.location": str(self.client_key),
            "ssl.key.password": KEY_PASSWORD,
        }

    def _sasl(self, mechanism: str, password: str) -> dict[str, str]:
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.ca),
            "sasl.mechanism": mechanism,
            "sasl.username": USER,
            "sasl.password": password,
        }


def make_security(directory: Path) -> Security:
    """Make a CA, and certificates of it for the broker and a client.

    Raises:
        BrokerUnavailableError: There is no `openssl`.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise BrokerUnavailableError("no `openssl` on PATH: it makes the certificates")

    def run(*arguments: str) -> None:
        done = subprocess.run([openssl, *arguments], cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerUnavailableError(f"openssl {arguments[0]} failed: {done.stderr}")

    new_key = ["-newkey", "rsa:2048", "-nodes"]
    run("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "30")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("broker", "client"):
        run("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "names"]
        run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    run("pkcs8", "-topk8", "-in", "client.key", "-out", "client-encrypted.key", "-passout", f"pass:{KEY_PASSWORD}")
    both = directory / "broker-both.pem"
    both.write_text((directory / "broker.key").read_text() + (directory / "broker.pem").read_text())
    return Security(directory / "ca.pem", both, directory / "client.pem", directory / "client-encrypted.key")
