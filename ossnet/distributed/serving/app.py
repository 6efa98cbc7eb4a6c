"""The HTTP application: what it answers, and to whom."""

import json
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from ossnet.distributed.serving.bearer import is_right
from ossnet.distributed.serving.segmenter import Kind, Segmenter, SegmentRequest
from ossnet.distributed.serving.uploads import TooLarge, receive_uploads
from ossnet.errors import UserError
from ossnet.inference.config import MeshFormat

RESULT = "Ossnet-Result"
"""The header that has the numbers of a scan, as JSON, whatever the file is."""
_MOST_ROUNDS = 100


def make_app(segmenter: Segmenter, *, token_digest: bytes, max_upload: int) -> FastAPI:
    """The application of a network.

    `GET /health` says what it is. `POST /segment` takes a multipart form with a file a modality, each in the
    field of that name, or one with all of them in the field `image`; it needs the token.

    Args:
        token_digest: of the token that clients show, as `Authorization: Bearer TOKEN`.
        max_upload: bytes of a request.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(RequestValidationError, _invalid_query)

    async def authorize(request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not is_right(token.strip(), token_digest):
            detail = "Authorization: expected Bearer and the server's token, found no such header"
            raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return segmenter.about

    @app.post("/segment", dependencies=[Depends(authorize)])
    async def segment(
        request: Request, requested: Annotated[SegmentRequest, Depends(_requested)]
    ) -> Response:
        async with receive_uploads(request, max_upload) as uploads:
            reply = await segmenter(uploads, requested)
        headers = {
            RESULT: json.dumps(reply.result),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(reply.name)}",
        }
        status = 200 if reply.content else 204
        return Response(reply.content, status, headers, reply.media_type)

    return app


def _requested(
    kind: Annotated[Kind, Query(alias="as")] = "labels",
    class_name: Annotated[str | None, Query(alias="class")] = None,
    mesh: Annotated[MeshFormat, Query(alias="format")] = "stl",
    smoothing: Annotated[int, Query(ge=0, le=_MOST_ROUNDS)] = 0,
) -> SegmentRequest:
    return SegmentRequest(kind, class_name, mesh, smoothing)


async def _user_error(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 413 if isinstance(error, TooLarge) else 422)


async def _invalid_query(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)
