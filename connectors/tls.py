"""Self-signed TLS certificates for the embedded default: one key, one certificate, its own authority.

A department with a certificate authority of its own configures that instead; the exchange only needs
to hand consumers the PEM of whatever authority signed the gateway's certificate.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors.keys import Secret
from contracts.errors import Reason, SluicegateError


class ClientPair(Secret):
    """What a client shows a server that demands certificates: `certificate` PEM with intermediates, and its
    key. Raises CONFIG_INVALID when the one is not the other's."""

    __slots__ = ("certificate", "unsafe_key")

    def __init__(self, certificate: bytes, key: bytes) -> None:
        check_pair(certificate, key)
        self.certificate, self.unsafe_key = certificate, key


LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_DAYS = 825
# A verifier whose clock is a little behind still accepts a certificate made just now.
CLOCK_SKEW = timedelta(minutes=5)


def self_signed(
    hostnames: Sequence[str] = LOOPBACK, *, now: int, days: int = MAX_DAYS, organisation: str = "Sluicegate"
) -> tuple[bytes, bytes]:
    """A fresh P-256 key and a certificate for these host names and IP addresses: (cert_pem, key_pem).

    `now` is epoch seconds; `days` the validity, 1 to 825 (longer ones are refused by common clients).
    The key is unencrypted PKCS#8: write it 0600. Randomness is the operating system's. The certificate
    is its own authority but may issue no further ones (path length 0): clients pin `cert_pem`.
    Raises CONFIG_INVALID without a host name, or for days out of range.
    """
    if not hostnames or not all(hostnames):
        raise SluicegateError(
            Reason.CONFIG_INVALID, "a certificate needs host names or IP addresses, none of them empty"
        )
    if not 1 <= days <= MAX_DAYS:
        raise SluicegateError(Reason.CONFIG_INVALID, f"a certificate is valid 1 to {MAX_DAYS} days; asked were {days}")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, hostnames[0][:64]),
        ]
    )
    begin = datetime.fromtimestamp(now, UTC) - CLOCK_SKEW
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hostnames]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem), key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def expires(cert_pem: bytes) -> int:
    """Epoch seconds at which the first certificate of a PEM ends. Raises CONFIG_INVALID if it is none."""
    try:
        return int(x509.load_pem_x509_certificate(cert_pem).not_valid_after_utc.timestamp())
    except ValueError:
        raise SluicegateError(
            Reason.CONFIG_INVALID, "not a PEM certificate: expected -----BEGIN CERTIFICATE-----"
        ) from None


def read_authority(path: Path | None) -> bytes | None:
    """The PEM of the authority whose certificates clients are asked for; None when none are. Raises
    CONFIG_INVALID for a file without one: gRPC would take the system's authorities in its place."""
    if path is None:
        return None
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SluicegateError(Reason.CONFIG_INVALID, f"cannot read {path}: {error.strerror}") from None
    expires(raw)
    return raw


def check_pair(cert_pem: bytes, key_pem: bytes) -> None:
    """Demand that the private key is that of the certificate. Raises CONFIG_INVALID."""
    try:
        certificate = x509.load_pem_x509_certificate(cert_pem)
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SluicegateError(Reason.CONFIG_INVALID, "not a PEM certificate and its unencrypted PEM key") from None
    if key.public_key() != certificate.public_key():
        raise SluicegateError(Reason.CONFIG_INVALID, "the TLS key is not the key of the certificate")


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host.encode("idna").decode("ascii"))
    except (UnicodeError, ValueError):
        raise SluicegateError(Reason.CONFIG_INVALID, f"not a host name or IP address: {host[:80]!r}") from None


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
