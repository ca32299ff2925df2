"""What a service needs of NATS and of the RES protocol, with Python's standard library alone.

It is yours to change. In its place, the package nats-py has all of NATS, TLS and clusters included.
"""

import json
import os
import random
import signal
import socket
import sys
import time
import urllib.parse


class RequestError(Exception):
    """An error for the client. The codes that begin with "system." are the protocol's."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def not_found():
    return RequestError("system.notFound", "Not found")


def invalid_params(message):
    return RequestError("system.invalidParams", message)


def granted(request, **path):
    """An access handler for what everybody may see and call."""
    return {"get": True, "call": "*"}


class Resource:
    """The result of a call that is a resource: the client is subscribed to it."""

    def __init__(self, rid):
        self.rid = rid


# ---- NATS: lines of text, those with a payload followed by it


class Bus:
    """A connection to NATS. One thread uses it: requests are handled one at a time, in their order."""

    def __init__(self, name):
        url = urllib.parse.urlsplit(os.environ.get("NATS_URL") or "nats://127.0.0.1:4222")
        # The server sends a ping every two minutes. When nothing arrives for five, it is gone.
        self.conn = socket.create_connection((url.hostname, url.port or 4222), timeout=300)
        self.wire = self.conn.makefile("rwb")
        self.last = 0
        self.subs = {}  # handlers by subscription
        self.ends = []  # (time, subscription) of those that end, in order
        options = {"verbose": False, "name": name}
        if url.password is not None:
            options.update(user=urllib.parse.unquote(url.username), **{"pass": urllib.parse.unquote(url.password)})
        elif url.username is not None:
            options["auth_token"] = urllib.parse.unquote(url.username)
        self.send("CONNECT " + json.dumps(options))

    def send(self, line, payload=None):
        self.wire.write(line.encode() + b"\r\n" + (b"" if payload is None else payload + b"\r\n"))
        self.wire.flush()

    def publish(self, subject, payload):
        self.send(f"PUB {subject} {len(payload)}", payload)

    def subscribe(self, subject, handler, queue="", seconds=None):
        self.last += 1
        self.subs[str(self.last)] = handler
        if seconds is not None:
            self.ends.append((time.monotonic() + seconds, str(self.last)))
        self.send(f"SUB {subject} {queue} {self.last}")

    def expire(self):
        while self.ends and self.ends[0][0] < time.monotonic():
            sid = self.ends.pop(0)[1]
            del self.subs[sid]
            self.send(f"UNSUB {sid}")

    def run(self, ready):
        """Handles messages until the connection ends. It calls ready once the server has the subscriptions."""
        self.send("PING")
        for line in self.wire:
            words = line.decode("utf-8", "replace").split()
            if words[0] == "PING":
                self.send("PONG")
            elif words[0] == "PONG":
                ready()
            elif words[0] == "-ERR":
                raise OSError(line.decode().strip())
            elif words[0] == "MSG":  # MSG subject subscription [reply] size
                size = int(words[-1])
                payload = self.wire.read(size + 2)
                if words[2] in self.subs and len(payload) == size + 2:
                    self.subs[words[2]](words[1], words[3] if len(words) == 5 else "", payload[:size])
            self.expire()


# ---- RES: requests, replies, events

bus = None


def publish(subject, value):
    bus.publish(subject, json.dumps(value).encode())


def event(resource, name, data=None):
    """Publishes an event of a resource. The gateway sends it to the clients that hold the resource."""
    publish(f"event.{resource}.{name}", data)


def reset(resources, access=()):
    """Makes gateways fetch again what they have cached of these, and request access to them again."""
    publish("system.reset", {"resources": list(resources), "access": list(access)})


def set_token(request, token):
    """Gives a client's connection a token."""
    publish(f"conn.{request['cid']}.token", {"token": token})


def more_time(request, milliseconds):
    """Asks the gateway to wait longer for the reply to a request."""
    bus.publish(request["reply"], f'timeout:"{milliseconds}"'.encode())


def query_event(resource, handler):
    """Makes the gateway send each query of a resource that it has cached; handler returns the resource as it is now."""
    subject = "_INBOX." + os.urandom(11).hex()
    bus.subscribe(subject, lambda _, reply, payload: answer(handler, reply, payload), seconds=10)
    event(resource, "query", {"subject": subject})


def find(resources, subject):
    """Finds the handler of a subject: the type, the resource's name, and for calls and auth the method."""
    kind, _, *name = subject.split(".")
    method = name.pop() if kind in ("call", "auth") else None
    for pattern, handlers in resources.items():
        parts = pattern.split(".")
        if len(parts) != len(name) or any(p != n for p, n in zip(parts, name) if p[0] != "$"):
            continue
        path = {p[1:]: n for p, n in zip(parts, name) if p[0] == "$"}
        handler = handlers.get(kind) if method is None else handlers.get(kind, {}).get(method)
        if handler is not None:
            return lambda request: handler(request, **path)
        if method is not None:
            raise RequestError("system.methodNotFound", "Method not found")
    raise not_found()


def answer(handler, reply, payload):
    try:
        request = json.loads(payload or b"{}")
        request["reply"] = reply
        result = handler(request)
        value = {"resource": {"rid": result.rid}} if isinstance(result, Resource) else {"result": result}
    except RequestError as error:
        value = {"error": {"code": error.code, "message": str(error)}}
    except Exception as error:  # what goes wrong with one request must not end the service
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        value = {"error": {"code": "system.internalError", "message": "Internal error"}}
    if reply:
        publish(reply, value)


def serve(service, resources):
    """Serves resources until Ctrl-C or SIGTERM.

    Their names follow that of the service, and may have parts such as $id. A handler gets the request as a dictionary,
    and the parts of the name as arguments of these names; it returns a result or raises a RequestError.
    """
    global bus
    stopping = connected = False
    pause = 0.1

    def stop(*_):
        nonlocal stopping
        stopping = True
        if not connected:
            sys.exit(0)
        bus.conn.shutdown(socket.SHUT_RD)  # the requests that have been received are still replied to

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)

    def handle(subject, reply, payload):
        answer(lambda request: find(resources, subject)(request), reply, payload)

    def ready():
        nonlocal pause
        pause = 0.1
        # What has changed while this service was away is unknown.
        reset([f"{service}.>"], [f"{service}.>"])
        print(f"{service} is serving", flush=True)

    while not stopping:
        try:
            bus = Bus(service)
            connected = True
            for kind in ("access", "get", "call", "auth"):
                bus.subscribe(f"{kind}.{service}.>", handle, queue=service)
            bus.run(ready)
        except OSError as error:
            if bus is None:
                sys.exit(f"connect to NATS: {error}: start a gateway with an embedded server by sluice --embedded-nats, or name a server by NATS_URL")
            print(f"NATS: {error}", file=sys.stderr)
        connected = False
        if not stopping:
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 10)
