"""Is the name checked against the certificate although the connection goes to the address that was resolved?"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from requests import adapters
from werkzeug.serving import make_server
from werkzeug.wrappers import Request

from connectors.contract import PermanentError
from connectors.transport.addresses import AddressBook
from tests.transport.conftest import answer

NAME = "books.example"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    (tmp_path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return tmp_path / "cert.pem", tmp_path / "key.pem"


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> Iterator[dict[str, object]]:
    """A TLS server for one name that notes the names it was asked for."""
    seen: dict[str, object] = {"sni": [], "hosts": []}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.sni_callback = lambda _socket, name, _context: seen["sni"].append(name)

    def application(environ, start_response):
        seen["hosts"].append(Request(environ).host.split(":")[0])
        return answer({"ok": True})(environ, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True, ssl_context=context)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    seen["port"] = server.port
    yield seen
    server.shutdown()
    server.server_close()


def test_host_sni_and_certificate_are_those_of_the_name(connection, make_transport, tls, certificate, monkeypatch):
    monkeypatch.setattr(adapters, "DEFAULT_CA_BUNDLE_PATH", str(certificate[0]))
    url = f"https://{NAME}:{tls['port']}"
    connection.settings = {"base_url": url}
    book = AddressBook(lambda host, port: ["127.0.0.1"])
    assert make_transport(connection, book=book).request("GET", f"{url}/x").json() == {"ok": True}
    assert (tls["sni"], tls["hosts"]) == ([NAME], [NAME])


@pytest.mark.parametrize("name", [NAME, "other.example"])
def test_a_certificate_that_is_not_good_stops_the_call(connection, make_transport, tls, certificate, monkeypatch, name):
    if name != NAME:  # trusted, but for another name
        monkeypatch.setattr(adapters, "DEFAULT_CA_BUNDLE_PATH", str(certificate[0]))
    url = f"https://{name}:{tls['port']}"
    connection.settings = {"base_url": url}
    book = AddressBook(lambda host, port: ["127.0.0.1"])
    with pytest.raises(PermanentError, match="certificate"):
        make_transport(connection, book=book).request("POST", f"{url}/x", json={})
    assert tls["hosts"] == []
