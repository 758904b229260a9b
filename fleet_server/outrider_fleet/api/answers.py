"""Answers of collections: JSON with an ETag, 304 where the reader has it already."""

import json
from hashlib import sha256
from typing import Any

from fastapi import Request, Response


def tagged(request: Request, value: Any) -> Response:
    """The value as JSON; 304 when `If-None-Match` names it."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == tag:  # [API-4]
        return Response(status_code=304, headers={"ETag": tag})
    return Response(body, media_type="application/json", headers={"ETag": tag, "Cache-Control": "no-cache"})
