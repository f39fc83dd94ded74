"""Errors of a request, under gRPC's names, with the HTTP codes that TensorFlow Serving gives them.

Source of the table: `ToHTTPStatusCode` in tensorflow_serving/model_servers/http_server.cc.
"""

HTTP = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
LONGEST = 1000  # characters of a message: it may quote what a client sent


class Status(Exception):
    """A request cannot be answered.

    Attributes:
        code: one of gRPC's names above.
        http: the HTTP code.
    """

    def __init__(self, code: str, message: str, http: int | None = None):
        super().__init__(message if len(message) <= LONGEST else message[:LONGEST] + " ...")
        self.code = code
        self.http = http or HTTP[code]


def invalid(message: str) -> Status:
    """Return the error of a request that is wrong in itself."""
    return Status("INVALID_ARGUMENT", message)


def shown(value: object, longest: int = 80) -> str:
    """Return a value from a request as a message quotes it: on one line, cut, without what cannot be encoded."""
    if isinstance(value, dict | list):  # which may be deep, or large
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = repr(value[: longest + 1]) if isinstance(value, str) else repr(value)
    return (text if len(text) <= longest + 2 else text[:longest] + "...").encode("utf-8", "backslashreplace").decode()
