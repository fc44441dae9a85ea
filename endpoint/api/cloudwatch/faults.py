"""What a failed request is called: by clients of the query protocol, and by all others.

CloudWatch was a service of the query protocol first. Clients of its other protocols are told the
query protocol's code too, in a header, so that users find the same codes whatever they use.
"""

from __future__ import annotations

from dataclasses import dataclass

from endpoint.errors import ApiError

QUERY_ERROR = "x-amzn-query-error"

# Those that the query protocol calls otherwise.
_QUERY_CODES = {
    "InvalidParameterValueException": "InvalidParameterValue",
    "InvalidParameterCombinationException": "InvalidParameterCombination",
    "MissingRequiredParameterException": "MissingParameter",
    "AccessDeniedException": "AccessDenied",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "UnknownOperationException": "InvalidAction",
    "SerializationException": "MalformedInput",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """``code`` and ``query_code`` are names of the same; ``party``: whose fault it is."""

    status: int
    code: str
    query_code: str
    party: str
    message: str

    @property
    def query_error(self) -> str:
        """The value of the header ``QUERY_ERROR``."""
        return f"{self.query_code};{self.party}"


def fault_of(error: ApiError) -> Fault:
    """The error in CloudWatch's terms."""
    return Fault(
        status=error.status,
        code=error.code,
        query_code=_QUERY_CODES.get(error.code, error.code),
        party="Receiver" if error.status >= 500 else "Sender",
        message=error.members()["Message"],
    )
