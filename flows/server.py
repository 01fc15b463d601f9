"""The Prefect server of `gradus ui`: it answers programs and its own UI, no other web page.

`uvicorn --factory flows.server:create_app` starts it, with the settings of `flows/__init__.py`. These leave two ways open: a
page whose host name is made to lead to 127.0.0.1 (DNS rebinding) counts as the server's own, and browsers let every page open
a websocket. So a request's Host must be this machine, and its Origin, which programs do not send, the server itself.
"""

import os

from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# Before Prefect is imported. With an absolute address the UI opened as http://localhost would be a page of another origin.
os.environ.setdefault("PREFECT_UI_API_URL", "/api")

from prefect.server.api import server
from prefect.settings import get_current_settings

HOSTS = ("127.0.0.1", "localhost")


def create_app() -> ASGIApp:
    """Prefect's server, API and UI, behind the checks of Host and Origin. Its calls of itself do not pass them."""
    return TrustedHostMiddleware(_TrustedOrigin(server.create_app(final=True)), HOSTS)


class _TrustedOrigin:
    """Refuses requests and websockets of pages that neither this server nor a PREFECT_SERVER_CORS_ALLOWED_ORIGINS names."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.allowed = set(get_current_settings().server.api.cors_allowed_origins.split(","))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin and not {origin, "*"} & {*self.allowed, f"http://{headers['host']}"}:
                await PlainTextResponse("Origin refused", status_code=403)(scope, receive, send)
                return
        await self.app(scope, receive, send)
