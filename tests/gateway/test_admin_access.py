"""Who and how many may use the admin API: tokens, certificates, limits (reliability S4; issue 4, part 1)."""

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from perdure.gateway import server
from perdure.gateway.admin_routes import ROUTES
from perdure.gateway.cli import main
from perdure.gateway.settings import Admin, Ingress, Settings, SettingsError
from perdure.journal.requests import DeploymentChoice, Incompatible, Op, OpResult, Which
from tests.gateway.runtime import MemoryRuntime
from tests.gateway.serving import FREE_PORT, Served, served, serving
from tests.gateway.test_admin import ID, error
from tests.gateway.test_cli import background

TOKEN = "0123456789abcdef0123456789abcdef"
VARIABLES = ("PERDURE_ADMIN_TOKEN", "PERDURE_ADMIN__TOKEN")
BEARER = {"authorization": f"Bearer {TOKEN}"}


def config(bind: str = FREE_PORT, **admin: Any) -> Settings:
    return Settings(ingress=Ingress(bind=FREE_PORT), admin=Admin(bind=bind, **admin))


def refused(settings: Settings) -> str:
    with pytest.raises(SettingsError) as raised:
        asyncio.run(server.start(MemoryRuntime(), settings))
    return str(raised.value)


# ---- tokens --------------------------------------------------------------------------------------


def test_every_route_but_health_needs_the_token() -> None:
    async def test(on: Served) -> None:
        for method, path, name in ROUTES:
            response = await on.admin.request(method, path)
            assert (response.status_code == 200) == (name == "health"), path
            if name == "health":
                continue
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert list(response.json()) == ["message", "restate_code"]
        for path in ("/nowhere", "/v1/health", "/v4/services", "/ui/api/overview"):
            response = await on.admin.get(path)
            assert response.status_code == 401, path
        page = await on.admin.get("/ui/%61pi/overview")  # no way around: that is a page
        assert page.headers["content-type"].startswith("text/html")
        assert (await on.admin.get("/v3/health")).status_code == 200
        assert (await on.admin.get("/services", headers=BEARER)).status_code == 200

    served(test, config=config(token=TOKEN))


@pytest.mark.parametrize(
    "given",
    [
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}0",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        "Bearer",
        "Bearer \u00ff",
        "",
    ],
)
def test_anything_else_is_no_token(given: str) -> None:
    async def test(on: Served) -> None:
        headers = {b"authorization": given.encode("latin-1")}
        response = await on.admin.get("/services", headers=headers)
        assert response.status_code == 401

    served(test, config=config(token=TOKEN))


def test_the_scheme_may_be_written_in_any_case() -> None:
    async def test(on: Served) -> None:
        headers = {"authorization": f"bearer  {TOKEN}"}
        assert (await on.admin.get("/services", headers=headers)).status_code == 200

    served(test, config=config(token=TOKEN))


def test_a_token_opens_the_api_to_other_machines(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")

    async def run() -> None:
        async with serving(config=config("0.0.0.0:0", token_file=str(file))) as on:
            url = f"http://127.0.0.1:{on.admin_port}"
            names = {"host": "perdure.corp"}
            assert (await on.admin.get(f"{url}/health", headers=names)).status_code == 200
            assert (await on.admin.get(f"{url}/services", headers=names)).status_code == 401
            both = {**names, **BEARER}
            assert (await on.admin.get(f"{url}/services", headers=both)).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    ("content", "told"), [("", "is empty"), ("short", "16 or more"), ("a b" * 10, "no spaces")]
)
def test_a_bad_token_file_is_told_at_the_start(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    message = refused(config(token_file=str(file)))
    assert told in message
    assert "admin.token_file" in message


def test_what_can_not_be_meant_is_told_at_the_start(tmp_path: Path) -> None:
    assert "cannot be read" in refused(config(token_file=str(tmp_path / "none")))
    assert "keep one" in refused(config(token=TOKEN, token_file="x"))
    assert "16 or more" in refused(config(token="short"))
    assert "tls_certificate_file" in refused(config(tls_client_ca_file="x"))
    assert "cannot be used" in refused(config(tls_certificate_file=str(tmp_path / "none")))


def test_the_command_line_sends_the_token() -> None:
    with background(MemoryRuntime(), config(token=TOKEN)) as on:
        command = ["services", "--url", on.gateway.admin_url]

        def run(*more: str, **env: str) -> Result:
            nothing: dict[str, str | None] = dict.fromkeys(VARIABLES)
            return CliRunner().invoke(main, [*command, *more], env={**nothing, **env})

        refused = run()
        assert refused.exit_code != 0
        assert "authorization: Bearer" in refused.output
        assert run("--token", TOKEN).exit_code == 0
        for name in VARIABLES:
            assert run(**{name: TOKEN}).exit_code == 0


# ---- limits --------------------------------------------------------------------------------------


def test_requests_in_flight_are_limited() -> None:
    class Slow(MemoryRuntime):
        def __init__(self) -> None:
            super().__init__()
            self.entered, self.go_on = asyncio.Event(), asyncio.Event()

        async def operate(
            self, invocation_id: str, op: Op, deployment: DeploymentChoice = Which.KEEP
        ) -> OpResult | Incompatible:
            self.entered.set()
            await self.go_on.wait()
            return OpResult.DONE

    runtime = Slow()

    async def test(on: Served) -> None:
        first = asyncio.create_task(on.admin.patch(f"/invocations/{ID}/kill"))
        await runtime.entered.wait()
        refused = await on.admin.get("/services")
        assert error(refused)[0] == 429
        assert refused.headers["retry-after"] == "1"
        runtime.go_on.set()
        assert (await first).status_code == 200
        assert (await on.admin.get("/services")).status_code == 200

    config = Settings(
        ingress=Ingress(bind=FREE_PORT), admin=Admin(bind=FREE_PORT, concurrent_requests_limit=1)
    )
    served(test, runtime, config)


# ---- certificates --------------------------------------------------------------------------------


def certificate(directory: Path, name: str, issuer: str | None = None) -> Path:
    """A PEM file with key and certificate, signed by ``issuer`` or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signed_by = key, subject
    if issuer is not None:
        pem = (directory / issuer).read_bytes()
        loaded = serialization.load_pem_private_key(pem, None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer, signed_by = loaded, x509.load_pem_x509_certificate(pem).subject
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(_signs(issuer is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    file = directory / name
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def _signs(certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def test_a_client_certificate_opens_the_api_to_other_machines(tmp_path: Path) -> None:
    authority = str(certificate(tmp_path, "authority"))
    own = str(certificate(tmp_path, "server", "authority"))
    friend = str(certificate(tmp_path, "friend", "authority"))
    stranger = str(certificate(tmp_path, "stranger"))
    settings = config("0.0.0.0:0", tls_certificate_file=own, tls_client_ca_file=authority)

    def context(client: str | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=authority)
        if client is not None:
            made.load_cert_chain(client)
        return made

    async def run() -> None:
        async with serving(config=settings) as on:
            assert on.gateway.admin_url.startswith("https://")
            url = f"https://127.0.0.1:{on.admin_port}/services"
            async with httpx.AsyncClient(verify=context(friend), trust_env=False) as client:
                assert (await client.get(url)).status_code == 200
            for each in (None, stranger):
                async with httpx.AsyncClient(verify=context(each), trust_env=False) as client:
                    with pytest.raises(httpx.HTTPError):
                        await client.get(url)

    asyncio.run(run())


def test_a_certificate_of_the_server_alone_is_no_login(tmp_path: Path) -> None:
    certificate(tmp_path, "authority")
    own = str(certificate(tmp_path, "server", "authority"))
    assert "no authentication" in refused(config("0.0.0.0:0", tls_certificate_file=own))
