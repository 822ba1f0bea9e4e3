"""Stands in for a web server: whoever it is called as, it answers on the port of `--port`, `$PORT` or
its program's name as the file `answers-PORT.json` in its folder says: {"/path": [code, body, seconds]}.
What it was asked last stands in `asked-PORT.json`.
"""

import json
import os
import socket
import sys
import threading
import time

PORTS = json.load(open(os.path.join(os.path.dirname(sys.argv[0]), "ports.json")))
WORDS = {200: "OK", 401: "Unauthorized", 404: "Not Found", 502: "Bad Gateway"}


def port():
    if "--port" in sys.argv:
        return int(sys.argv[sys.argv.index("--port") + 1])
    return int(os.environ.get("PORT") or PORTS[os.path.basename(sys.argv[0])])


def answers():
    try:
        with open(f"answers-{PORT}.json") as file:
            return json.load(file)
    except FileNotFoundError:
        return {"/": [200, '{"status": "healthy"}', 0], "/health": [200, "", 0]}


def note(asked):
    with open(f"asked-{PORT}.new", "w") as file:
        json.dump(asked, file)
    os.rename(f"asked-{PORT}.new", f"asked-{PORT}.json")


def serve(connection):
    with connection, connection.makefile("rb") as stream:
        method, path, _ = stream.readline().decode().split()
        heads = {}
        while line := stream.readline().strip().decode():
            name, value = line.split(":", 1)
            heads[name.strip().lower()] = value.strip()
        body = stream.read(int(heads.get("content-length", 0))).decode()
        note({"method": method, "path": path, "headers": heads, "body": body})
        code, body, seconds = answers().get(path, [404, "", 0])
        time.sleep(seconds)
        head = f"HTTP/1.1 {code} {WORDS[code]}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall((head + body).encode())


PORT = port()
listener = socket.create_server((os.environ.get("HOST", "0.0.0.0"), PORT))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
