"""Errors of the worker, the local API and its client; all stand below `AgentError`.

Callers branch on the class; the local API sends the class name, the message and `hint` to its client as JSON.
"""

from __future__ import annotations

from outrider_agent.errors import AgentError, TransientError


class ArtifactError(AgentError):
    """The artifact cannot be served: this device keeps what it runs."""

    hint = "The artifact is damaged or was built for another engine: roll out a newly built release."


class ModelFileError(ArtifactError):
    """The model file is not the one that the manifest lists."""

    hint = "The file was changed on this device: delete the artifact's directory, it is fetched again."


class EngineError(ArtifactError):
    """The engine that the artifact names is missing or refuses the model."""

    hint = "Compare the profile's engine and version with what is installed on this device (`outrider-agent doctor`)."


class PreprocessError(ArtifactError):
    """The artifact's preprocess layer cannot be read here, or does not fit the artifact's inputs."""

    hint = "Update this device's agent if the layer is newer than it; else roll out a newly built release."


class GoldenMismatchError(ArtifactError):
    """The model answers its golden vectors differently here than where it was built."""

    hint = "This device's engine or processor computes differently: do not roll this artifact out to its profile."


class RequestError(AgentError):
    """A request that the local API refuses: the client must change it."""

    hint = "Compare the request with the model's metadata: GET /v2/models/<model>."


class MalformedRequestError(RequestError):
    """The request is not HTTP/1.1 or its inference header is not JSON of the Open Inference Protocol."""

    hint = "Use outrider_agent.client.Client, or see docs/spec/local-api.md for the form of a request."


class RequestTooLargeError(RequestError):
    """The request exceeds a limit in bytes: it was not read."""

    hint = "Send fewer windows in one request."


class RequestTimeoutError(RequestError):
    """The request was begun and not completed in time."""

    hint = "Send the whole request at once."


class LengthRequiredError(RequestError):
    """The request has a body without `Content-Length`; chunked bodies are not read."""

    hint = "Send `Content-Length`."


class UnknownPathError(RequestError):
    """Nothing is served under this path."""

    hint = "Paths: /v2, /v2/health/live, /v2/health/ready, /v2/models/<model>[/ready|/infer]."


class UnknownModelError(RequestError):
    """This socket serves another model."""

    hint = "Each model has its own socket: run/<model>.sock."


class MethodError(RequestError):
    """The path exists, but not for this method."""

    hint = "`infer` takes POST, everything else GET."


class TensorError(RequestError):
    """A tensor's name, datatype, shape or length does not fit the model."""


class UnavailableError(RequestError):
    """The worker cannot take the request now: try again later."""

    hint = "The worker is starting, draining or has too many connections: connect again."


class InferenceError(AgentError):
    """The engine failed on this input; the worker goes on."""

    hint = "The engine's own message says why; the same input will fail again."


class WorkerGoneError(TransientError):
    """The connection ended before the answer: the request may or may not have run; the next call connects again."""

    hint = "Send the request again: the supervisor starts a new worker behind the same socket."


class RefusedError(AgentError):
    """The local API answered with an error; `name` is its class there."""

    def __init__(self, status: int, name: str, message: str, hint: str) -> None:
        super().__init__(f"{status} {name}: {message}", hint)
        self.status, self.name = status, name
