"""A service behind a Sluice gateway.

It owns one resource, the model {{name}}.counter, which clients may read, subscribe to, and increment.
"""

from res import event, serve

counter = {"count": 0}


def increment(request):
    counter["count"] += 1
    event("{{name}}.counter", "change", {"values": {"count": counter["count"]}})


serve("{{name}}", {
    "counter": {
        # Everybody may read the counter and call its method: replace this by a check of request["token"] before you
        # serve more than this.
        "access": lambda request: {"get": True, "call": "increment"},
        "get": lambda request: {"model": counter},
        "call": {"increment": increment},
    },
})
