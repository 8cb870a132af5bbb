"""Take out of a text what must not be shown: passwords and tokens that an address or the environment holds."""

import os
import re

HIDDEN = "***"
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL")
_SHORTEST = 8  # signs of a value that is hidden; shorter ones are words such as `true`
_ADDRESS = re.compile(
    r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/@'\"]*@)?([^\s?#'\"<>()]*)(?:[?#][^\s'\"<>()]*)?", re.IGNORECASE
)


def redacted(text: str) -> str:
    """The text on one line, without values of variables named like secrets, and without an address's user and query."""
    line = " ".join(text.split())
    secrets = {value for name, value in os.environ.items() if _SECRET_NAME.search(name.upper())}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            line = line.replace(secret, HIDDEN)
    return _ADDRESS.sub(r"\1\2", line)
