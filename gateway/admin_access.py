"""Who may use the admin API: a bearer token, or a client certificate; on loopback nobody is asked unless set.

Reads the files that the settings name. The official server has no login, so this is ours (reliability S4).
"""

import hmac
import ssl
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from perdure.gateway.admin_answers import error
from perdure.gateway.settings import Admin, SettingsError
from perdure.gateway.settings_sources import is_loopback, split_address

OPEN_OPERATIONS: Final = frozenset({"health"})  # which a stranger may ask for
_SHORTEST_TOKEN: Final = 16
_SCHEME: Final = "bearer"
_HOW_TO: Final = (
    "bind it to 127.0.0.1; or set a token: write it to a file ('openssl rand -hex 32 > admin.token') and "
    "name the file in 'admin.token_file', or put it into PERDURE_ADMIN__TOKEN; or ask for client "
    "certificates with 'admin.tls_certificate_file', 'admin.tls_key_file' and 'admin.tls_client_ca_file'"
)


class Access:
    """Raises SettingsError where the settings leave the API open to other machines, or can't be read."""

    def __init__(self, settings: Admin) -> None:
        self._token = _read_token(settings)
        self.tls = _read_tls(settings)
        host, _ = split_address(settings.bind)
        if is_loopback(host) or self._token or settings.tls_client_ca_file:
            return
        raise SettingsError(
            f"'admin.bind' is {settings.bind}, which other machines can reach, and the admin API has "
            f"no authentication; {_HOW_TO}"
        )

    def refuse(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a request without the token; None where it may go on."""
        if not self._token:
            return None
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        given_bytes = given.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == _SCHEME and hmac.compare_digest(given_bytes, self._token):
            return None
        response = error(401, "the admin API needs the header 'authorization: Bearer <token>'")
        response.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="perdure admin"'
        return response


def _read_token(settings: Admin) -> bytes:
    token, where = settings.token, "'admin.token'"
    if settings.token_file:
        if token:
            raise SettingsError(
                "'admin.token' and 'admin.token_file' are both set; keep one of them"
            )
        where = f"the file {settings.token_file} ('admin.token_file')"
        try:
            token = Path(settings.token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise SettingsError(f"{where} cannot be read: {e}") from e
        if not token:
            raise SettingsError(f"{where} is empty")
    if token and (len(token) < _SHORTEST_TOKEN or not all("!" <= c <= "~" for c in token)):
        raise SettingsError(
            f"the token in {where} must have {_SHORTEST_TOKEN} or more visible ASCII characters, and no "
            "spaces; 'openssl rand -hex 32' makes one"
        )
    return token.encode()


def _read_tls(settings: Admin) -> ssl.SSLContext | None:
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    authority = settings.tls_client_ca_file
    if not certificate:
        if key or authority:
            raise SettingsError("'admin.tls_certificate_file' is missing; TLS needs it")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key or None)
        if authority:
            context.load_verify_locations(authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as e:
        raise SettingsError(
            f"the files of 'admin.tls_certificate_file', 'admin.tls_key_file' and "
            f"'admin.tls_client_ca_file' cannot be used: {e}"
        ) from e
    return context
