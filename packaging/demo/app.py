"""A small API to try keepup on: plain ASGI, no framework.

/        says that it is healthy
/hang    blocks the event loop for ever: the process lives, and answers nothing any more
/crash   ends the process at once, with exit code 1

Its heartbeat comes from inside the event loop, so a blocked loop does not beat.
"""

import asyncio
import json
import os
import pathlib
import time

HEARTBEAT = os.environ.get("HEARTBEAT")


async def beat():
    while True:
        pathlib.Path(HEARTBEAT).write_text(str(time.time()))
        await asyncio.sleep(1)


async def lifespan(receive, send):
    beating = None
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            if HEARTBEAT:
                beating = asyncio.create_task(beat())
            await send({"type": "lifespan.startup.complete"})
        else:
            if beating:
                beating.cancel()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["path"] == "/hang":
        time.sleep(1_000_000)
    if scope["path"] == "/crash":
        os._exit(1)
    found = scope["path"] == "/"
    body = {"status": "healthy", "pid": os.getpid()} if found else {"error": "not found"}
    head = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": head})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
