"""Certificates for servers of a test on 127.0.0.1, and for their clients."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def self_signed(path: Path) -> Path:
    """Writes the key and its certificate, which is its own authority, to one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("carrier")
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    unsigned = _unsigned(name, name, key.public_key(), days=1).add_extension(address, critical=False)
    path.write_bytes(_private(key) + _pem(unsigned.sign(key, hashes.SHA256())))
    return path


@dataclass(frozen=True)
class Issued:
    key: Path
    chain: Path


class Authority:
    """Signs certificates of servers on 127.0.0.1 and of their clients."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("authority")
        self.file = directory / "authority.pem"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        signed = _unsigned(self._name, self._name, self._key.public_key(), days=1).add_extension(basic, critical=True)
        self.file.write_bytes(_pem(signed.sign(self._key, hashes.SHA256())))

    def issue(self, name: str, *, days: int = 1) -> Issued:
        """`days`: until it ends; with -1 it ended yesterday."""
        key = ec.generate_private_key(ec.SECP256R1())
        found = Issued(self._directory / f"{name}.key", self._directory / f"{name}.pem")
        address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        unsigned = _unsigned(_named(name), self._name, key.public_key(), days).add_extension(address, critical=False)
        found.chain.write_bytes(_pem(unsigned.sign(self._key, hashes.SHA256())))
        found.key.write_bytes(_private(key))
        return found


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _unsigned(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, name, key, x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=days))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
