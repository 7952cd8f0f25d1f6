"""Whether a tracking server answers is asked as MLflow itself asks: its certificates, tokens and passwords count."""

import datetime
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from silvertune.errors import UserError
from silvertune.tracking import store


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signed itself, and a file with it and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "certificate.pem").write_bytes(signed)
    (folder / "both.pem").write_bytes(private + signed)
    return folder / "certificate.pem", folder / "both.pem"


@dataclass
class Server:
    address: str
    paths: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)


def serve(context: ssl.SSLContext | None, status: int = 200) -> Iterator[Server]:
    server = Server("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.paths.append(self.path)
            server.authorizations.append(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        if context is not None:
            listening.socket = context.wrap_socket(listening.socket, server_side=True)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        server.address = f"{'https' if context else 'http'}://127.0.0.1:{listening.server_address[1]}"
        yield server
        listening.shutdown()


def context_of(both: Path, clients: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[Server]:
    yield from serve(context_of(certificate[1]))


@pytest.fixture
def mutual(certificate: tuple[Path, Path]) -> Iterator[Server]:
    """It wants a certificate of the client as well."""
    yield from serve(context_of(certificate[1], certificate[0]))


@pytest.fixture
def plain() -> Iterator[Server]:
    yield from serve(None)


@pytest.fixture(params=[401, 403, 404, 500, 503])
def refusing(request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from serve(None, request.param)


def refused(address: str) -> str:
    with pytest.raises(UserError) as caught:
        store.check_answers(address)
    message = str(caught.value)
    assert message.startswith(f"tracking.uri={store.printable(address)}: no answer, is the server running? (")
    assert "\n" not in message
    return message


def test_a_certificate_that_nobody_knows_is_told(secure: Server) -> None:
    assert "certificate" in refused(secure.address).lower()


def test_a_certificate_authority_of_ones_own_is_asked(
    secure: Server, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate[0]))
    store.check_answers(secure.address)
    assert secure.paths == ["/health"]


def test_certificates_are_not_looked_at_where_mlflow_does_not(secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    store.check_answers(secure.address)


def test_a_client_shows_its_certificate(
    mutual: Server, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate[0]))
    refused(mutual.address)
    monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(certificate[1]))
    store.check_answers(mutual.address)


def test_tokens_and_passwords_are_sent(plain: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    store.check_answers(plain.address)
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    store.check_answers(plain.address)
    assert plain.authorizations == ["Bearer abc", "Basic YWRhOnNlY3JldA=="]


def test_a_server_below_a_path_is_asked_there(plain: Server) -> None:
    store.check_answers(f"{plain.address}/mlflow/")
    assert plain.paths == ["/mlflow/health"]


def test_a_server_that_refuses_answers_nevertheless(refusing: Server) -> None:
    store.check_answers(refusing.address)


def test_no_server_is_told_at_once_and_without_the_password() -> None:
    assert "secret" not in refused("http://ada:secret@127.0.0.1:9")
    assert store.answers("sqlite:////somewhere")
    assert not store.answers("http://127.0.0.1:9")


# -------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://ada:secret@mlflow.example/x", "https://ada:***@mlflow.example/x"),
        ("postgresql+psycopg2://ada:s%40t@host:5432/db", "postgresql+psycopg2://ada:***@host:5432/db"),
        ("sqlite:////a b/mlflow.db", "sqlite:////a b/mlflow.db"),
        ("databricks://profile", "databricks://profile"),
        ("databricks", "databricks"),
    ],
)
def test_a_password_is_never_shown(address: str, shown: str) -> None:
    assert store.printable(address) == shown


@pytest.mark.parametrize(
    "address", ["databricks", "databricks://me", "uc", "mysql://h/d", "mssql://h/d", "azureml://x"]
)
def test_an_address_that_is_no_file_is_left_to_mlflow(address: str) -> None:
    store.refuse_plain_files(address)


def test_plain_files_are_taken_where_mlflow_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store.refuse_plain_files("file:///somewhere")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("databricks", "databricks"),
        ("uc", "Unity Catalog"),
        ("nonsense://x", "nonsense"),
        ("mysql+nodriver://u@127.0.0.1/x", "nodriver"),
    ],
)
def test_an_address_that_can_not_be_used_has_mlflows_own_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, words: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError) as caught:
        store.prepare({"uri": address, "dir": str(tmp_path)}, "study")
    assert str(caught.value).startswith(f"tracking.uri={address}: can't be used (")
    assert words.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_the_environments_address_is_used_where_the_configuration_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = {"uri": None, "dir": str(tmp_path)}
    assert store.is_in_dir(local)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://theirs")
    assert store.uri(local) == "http://theirs"
    assert not store.is_in_dir(local)
    assert store.uri(local | {"uri": "http://mine"}) == "http://mine"
