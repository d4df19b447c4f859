"""Answers `GET /?QUERY` with the query, in gunicorn and uvicorn: web:app."""

import os


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        # One write, so that the lines of several workers stay whole.
        os.write(1, b"ready\n")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = scope["query_string"]
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
