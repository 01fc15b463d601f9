"""Prefect: when and where stages run. Stages are started through dvc, never imported."""

import os

# Before Prefect is imported. Its server, the temporary one of a run included, obeys no web page: none of another origin may
# read an answer, and a change needs a token, which such a page cannot read. Prefect's client and UI fetch it themselves.
# No telemetry, and time for the temporary server to start on a busy machine.
for _variable, _value in {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "150",
    "PREFECT_LOGGING_COLORS": "false",
}.items():
    os.environ.setdefault(_variable, _value)
