# SPDX-License-Identifier: Apache-2.0
"""The compiled core of pyinfer.

Longer than 400 lines: it describes one extension module, and a stub can not be cut.

This stub is the written list of what the extension module offers; a test compares it with the module.
Every name says what it does with the GIL: *held* (short, keeps it), *released* (drops it while it works).
"Loop thread" means the thread of the event loop that the object's Mailbox belongs to.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from numpy.typing import NDArray

__all__ = [
    "Batch",
    "BytesView",
    "CallMailbox",
    "CallParent",
    "CudaMemory",
    "DeviceArray",
    "Engine",
    "EnsembleOptions",
    "FakeServerCore",
    "FakeServerReport",
    "GrpcConnection",
    "GrpcOptions",
    "HeaderForwarding",
    "HttpConnection",
    "InferHead",
    "Instance",
    "KnownHeads",
    "LatencyHistogram",
    "LimitedInstance",
    "LoadRun",
    "LoadWindow",
    "Mailbox",
    "ManualClock",
    "MetricModel",
    "Model",
    "ModelCall",
    "ModelSpec",
    "PaddingOptions",
    "ParseJob",
    "PlacedInputs",
    "QueueOptions",
    "QueuePolicy",
    "RemoteCache",
    "Responder",
    "ResponseTimes",
    "SequenceOptions",
    "SharedMemoryRegistry",
    "SharedValues",
    "StatisticsOptions",
    "TensorSpec",
    "TlsClient",
    "Trace",
    "TraceLog",
    "TraceRecord",
    "Tracer",
    "WorkerCalls",
    "WorkerGuest",
    "WorkerHost",
    "WorkerLanes",
    "WorkerSession",
    "build_info",
    "cuda_available",
    "cuda_devices",
    "deserialize_bytes",
    "dlpack_to_host",
    "end_with_parent",
    "error_table",
    "exec_call",
    "grpc_call",
    "load_sequence_fields",
    "metrics_page",
    "serialize_bytes",
    "statistics_json",
    "statistics_message",
]

@final
class TensorSpec:
    """One input or output of a model configuration. Immutable. GIL: held.

    ``datatype`` is a wire name (``FP32``, ``BYTES``); ``dims`` exclude the batch dimension, -1 is variable;
    ``reshape`` is what the executor sees instead of ``dims``, None where the same. ``labels`` are what the classes of
    an output are called, by index. ``ragged``: requests that differ in the shape of this input may share a batch.
    Raises ValueError for an unknown datatype or a dimension below -1.
    """

    def __init__(
        self,
        name: str,
        datatype: str,
        dims: Sequence[int],
        *,
        reshape: Sequence[int] | None = None,
        optional: bool = False,
        labels: Sequence[bytes] = (),
        ragged: bool = False,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def datatype(self) -> str: ...
    @property
    def dims(self) -> list[int]: ...

@final
class QueuePolicy:
    """How long, and how many, requests of one priority may wait: Triton's ModelQueuePolicy. Immutable. GIL: held.

    0 stands for no timeout and no limit. Raises ValueError for an unknown ``timeout_action`` (REJECT or DELAY).
    """

    def __init__(
        self,
        *,
        timeout_action: str = "REJECT",
        default_timeout_us: int = 0,
        allow_timeout_override: bool = False,
        max_queue_size: int = 0,
    ) -> None: ...

@final
class QueueOptions:
    """The priority levels of a model (1 is the highest; 0 levels: all requests are alike) and their policies.

    A priority that is none of the levels means the default one. ``latency_slo_us`` 0: the model has no latency SLO.
    Raises ValueError for a negative one. Immutable. GIL: held.
    """

    def __init__(
        self,
        *,
        priority_levels: int = 0,
        default_priority_level: int = 0,
        default_policy: QueuePolicy = ...,
        policies: Mapping[int, QueuePolicy] = ...,
        latency_slo_us: int = 0,
    ) -> None: ...

@final
class SequenceOptions:
    """How requests that belong to sequences are queued. Immutable. GIL: held.

    ``strategy`` is ``direct`` or ``oldest``; ``slots`` are those of each instance; a sequence without a request for
    ``max_idle_us`` loses its slot. ``controls`` are (kind, tensor name, datatype, false element, true element) of kind
    START, READY, END or CORRID; the elements of the last are empty. ``states`` are (input name, output name, datatype,
    dims, shape and data of the first request of a sequence): tensors that each sequence carries from one to the next.
    ``iterative``: each request is a sequence that :meth:`Batch.reschedule` goes on with. Raises ValueError for what
    does not fit.
    """

    def __init__(
        self,
        *,
        strategy: str,
        slots: int,
        max_idle_us: int,
        minimum_slot_utilization: float = 0.0,
        controls: Sequence[tuple[str, str, str, bytes, bytes]] = (),
        states: Sequence[tuple[str, str, str, Sequence[int], Sequence[int], bytes]] = (),
        iterative: bool = False,
    ) -> None: ...

@final
class StatisticsOptions:
    """What is counted of a model beside what always is. Immutable. GIL: held.

    ``summary_quantiles`` are (quantile, its error as a share of all values), none for no summaries;
    ``first_response_bounds_ms`` are the upper bounds of a histogram, none for no such histogram; ``histograms`` are
    those of request duration, queue time and batch size. Raises ValueError for what is out of range or does not ascend.
    """

    def __init__(
        self,
        *,
        summary_quantiles: Sequence[tuple[float, float]] = (),
        first_response_bounds_ms: Sequence[float] = (),
        histograms: bool = True,
    ) -> None: ...

@final
class EnsembleOptions:
    """The graph of an ensemble. Immutable. GIL: held."""

    def __init__(
        self,
        *,
        steps: Sequence[tuple[str, int, Mapping[str, str], Mapping[str, str]]],
        max_inflight_requests: int = 0,
    ) -> None:
        """Each step: model, version (-1: the latest), inputs and outputs, from its tensor to that of the ensemble.

        ``max_inflight_requests``: at most so many requests of each step at a time; 0: any number. ValueError where
        there is no step.
        """

@final
class PaddingOptions:
    """What a model's requests are padded to. Immutable. GIL: held."""

    def __init__(
        self,
        *,
        axes: Sequence[tuple[str, Sequence[int], bool, str, str]],
        inputs: Sequence[tuple[str, Sequence[tuple[int, int]], bytes]],
        outputs: Sequence[tuple[str, Sequence[tuple[int, int]]]] = (),
        window: int = 64,
    ) -> None:
        """``axes`` are lengths that differ between requests: a name, ascending buckets, whether a batch is padded to
        its longest request instead of the bucket, an input for the executor that gets the lengths (INT32 or INT64
        [rows]) and its data type, "" where there is none. ``inputs`` are padded, ``outputs`` cut back to the lengths of
        their request, along pairs of a dimension (the batch dimension is 0) and the index of an axis; an input has the
        element to pad with, as on the wire. A batch is made of the first ``window`` requests that wait. ValueError
        where this is no padding.
        """

@final
class ModelSpec:
    """What the core must know of a model version: its tensors and how its requests are queued. Immutable. GIL: held.

    ``max_batch_size`` 0 means that tensors have no batch dimension. Without ``dynamic_batching`` each execution takes
    one request. ``preferred_batch_sizes`` and ``max_queue_delay_us`` are Triton's.
    ``decoupled``: a request may have no response, or several. ``ensemble``: it is executed by other models.
    ``device_inputs``: its executor takes inputs that are on a CUDA device; other models get them copied to the host.
    ``preserve_ordering``: answers leave in the order of the requests. ``batch_inputs`` are (kind, names for the
    executor, an input, INT32 or FP32) and ``batch_outputs`` (outputs, an input): what :meth:`Batch.packed` adds, and
    how :meth:`Batch.respond_packed` cuts.
    ``cached``: answers are kept in the engine's response cache, if it has one. ``padding``: requests of different
    lengths share a batch. ValueError where it does not fit the tensors. ``split_large``: requests that are larger than
    a batch are executed in parts.
    """

    def __init__(
        self,
        *,
        name: str,
        version: int,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        max_batch_size: int = 0,
        dynamic_batching: bool = False,
        preferred_batch_sizes: Sequence[int] = (),
        max_queue_delay_us: int = 0,
        queue: QueueOptions = ...,
        decoupled: bool = False,
        sequence: SequenceOptions | None = None,
        ensemble: EnsembleOptions | None = None,
        statistics: StatisticsOptions = ...,
        device_inputs: bool = False,
        preserve_ordering: bool = False,
        batch_inputs: Sequence[tuple[str, Sequence[str], str, str]] = (),
        batch_outputs: Sequence[tuple[Sequence[str], str]] = (),
        cached: bool = False,
        padding: PaddingOptions | None = None,
        split_large: bool = False,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...

@final
class ManualClock:
    """A clock that moves only when told to. Any thread. GIL: held."""

    def __init__(self, now_ns: int = 0) -> None: ...
    def now_ns(self) -> int: ...
    def advance_ns(self, ns: int) -> None: ...

@final
class Engine:
    """Names -> models. Any thread.

    A model is made by :meth:`create`, given instances, and becomes visible to requests by :meth:`publish`.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        """GIL: held."""
    def create(self, spec: ModelSpec, steps: Sequence[Model] = (), cache_origin: str = "") -> Model:
        """A new model version that no request can reach yet. GIL: held.

        ``steps``: the model of each step of an ensemble, as it is found now. Whatever is published by its name when a
        step is due is preferred to it. ValueError where their number is not that of the steps.
        ``cache_origin`` is another one where the model changes, and the same in every process that serves it; without
        it nothing is kept in a remote cache.
        """
    def publish(self, name: str, models: Sequence[Model], not_ready: Sequence[int] = (), refusal: str = "") -> None:
        """Atomically make ``models`` the served versions of ``name``; the highest version is the default.

        ``not_ready`` are known versions that answer "not at ready state". Models served before and not named now
        accept no new requests, finish what they have, and stay the caller's to drain. Where ``refusal`` is not empty,
        every request for ``name`` is answered INVALID_ARG with this text. GIL: released.
        """
    def withdraw(self, name: str) -> None:
        """Forget ``name``: requests for it are answered "is not found". GIL: held."""
    @property
    def shared_memory(self) -> SharedMemoryRegistry:
        """The regions that requests may name."""
    def set_local_cache(self, most_bytes: int) -> None:
        """Keep answers of models that are created from now on and are ``cached``, up to so many bytes. GIL: held."""
    def set_remote_cache(self, cache: RemoteCache) -> None:
        """As :meth:`set_local_cache`, outside of this process. GIL: held."""
    @property
    def has_remote_cache(self) -> bool: ...
    def set_rate_limiter(self, totals: Sequence[tuple[str, int, int | None]]) -> None:
        """Have instances of models that are created from now on hold what they need while they execute. GIL: held.

        ``totals`` are (resource, count, device, None for each device): what there is of it, and nothing of any other.
        Without them there is as much of each resource as the instance needs that needs most.
        """
    def stop_accepting(self) -> None:
        """From now on every new request is answered UNAVAILABLE (server is stopping). GIL: held."""
    def in_flight(self) -> int:
        """Requests accepted and not yet answered, over all models. GIL: held."""
    @property
    def tracer(self) -> Tracer: ...

@final
class RemoteCache:
    """Answers of models that are kept outside of this process, by a client that asks :meth:`take` what to do.

    A lookup is a miss after ``patience_s``, which also makes the cache unreachable; while it is, nobody is asked.
    Answers of more than ``most_entry_bytes`` are not kept. ValueError for a patience that is none. Any thread.
    """

    def __init__(self, *, patience_s: float, most_entry_bytes: int = ...) -> None: ...
    def take(self, timeout_s: float, most: int) -> list[tuple[int, bytes, bytes | None]]:
        """At most ``most`` jobs (id, key, value): keep the value under the key, or look the key up where it is None.

        Waits for the first one, up to ``timeout_s``; empty then, or once closed. GIL: released.
        """
    def answer(self, id: int, data: bytes | bytearray | memoryview | None) -> None:
        """What was found for a lookup, or that nothing was. Bytes that are no response are a miss. GIL: released."""
    def set_reachable(self, reachable: bool) -> None:
        """Tell whether the cache can be asked; what waits is a miss where not. GIL: released."""
    @property
    def reachable(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None:
        """What waits is a miss, and nobody is asked any more. Idempotent. GIL: released."""

@final
class Tracer:
    """Samples requests, and collects what is traced of them. Any thread. GIL: held unless told.

    Each name has one complete setting: what an operator left open is filled in by whoever calls :meth:`set`. Nothing is
    traced before that. Finished traces wait, up to 16384 of them or 64 MiB, for a :class:`TraceLog` or for
    :meth:`take`; what finds no room is dropped and counted.
    """

    def set(
        self,
        model: str,
        *,
        timestamps: bool = False,
        tensors: bool = False,
        rate: int = 1000,
        count: int = -1,
        log_frequency: int = 0,
    ) -> None:
        """What holds for requests of ``model``, or ("") of all models without a setting of their own, from now on.

        One of ``rate`` requests is traced (0: only those whose client traces them) until ``count`` are (-1: no end).
        ``log_frequency`` is how many go into one file (0: all). Requests are counted from anew.
        """
    def clear(self, model: str) -> None:
        """The setting of all models holds for ``model`` again."""
    def count_left(self, model: str) -> int:
        """``count`` of the setting that holds for ``model``, less the traces sampled since it was set."""
    def enable_spans(self) -> None:
        """Give traces the ids that OpenTelemetry needs, and trace what a client's ``traceparent`` says it traces.

        To be called before the first request.
        """
    def take(self, timeout_s: float) -> list[TraceRecord]:
        """All traces that are finished, waiting at most so long for the first. GIL: released."""
    def close(self) -> None:
        """Drop what is finished from now on; ``take`` returns at once."""
    def counts(self) -> tuple[int, int]:
        """How many traces were finished since the start, and how many of them were dropped."""

@final
class TraceRecord:
    """What was traced of one request. Immutable. GIL: held. Times are nanoseconds of ``time.monotonic_ns``."""

    @property
    def id(self) -> int: ...
    @property
    def model_name(self) -> str: ...
    @property
    def model_version(self) -> int: ...
    @property
    def request_id(self) -> str: ...
    @property
    def trace_id(self) -> bytes: ...
    @property
    def parent_span_id(self) -> bytes:
        """Of the client's span; all zero where there is none."""
    @property
    def span_ids(self) -> tuple[bytes, bytes, bytes]:
        """Of the request as a whole, of what the model did for it, and of its execution."""
    @property
    def trace_state(self) -> bytes:
        """The client's ``tracestate``."""
    @property
    def begin_ns(self) -> int: ...
    @property
    def end_ns(self) -> int: ...
    @property
    def error(self) -> str | None:
        """The text of its error; None where it succeeded."""
    @property
    def transport_events(self) -> list[tuple[str, int]]:
        """(Triton's name, time) of what its protocol did, in order; empty where timestamps are not traced."""
    @property
    def request_events(self) -> list[tuple[str, int]]: ...
    @property
    def compute_events(self) -> list[tuple[str, int]]: ...

@final
class TraceLog:
    """Writes the traces of a tracer to files in Triton's form, on a thread of the core.

    They go to ``path``, or to ``path.0``, ``path.1``, ... where their setting has a log frequency, or a count that is
    used up. ``report`` is called on that thread with a text for the operator where traces are lost.
    """

    def __init__(self, tracer: Tracer, path: str, report: Callable[[str], object]) -> None:
        """GIL: held."""
    def close(self) -> None:
        """Close the tracer, write what is left, end the thread. Blocks until then. Idempotent. GIL: released."""

@final
class Model:
    """One version of one model: its queue, instances and statistics. Any thread."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    def limit(
        self, *, priority: int, resources: Sequence[tuple[str, bool, int]], device: int
    ) -> LimitedInstance | None:
        """What one more instance on ``device`` has to hold while it executes. GIL: held.

        ``resources`` are (name, is it global, count); an instance executes the less often the higher its ``priority``.
        It counts among those that share the resources until the last reference to the result is gone. None where
        ``resources`` is empty or the engine has no rate limiter. Raises ValueError, with Triton's text, where there is
        less of a resource, or a name is that of a global resource and of one of a device.
        """
    def add_instance(self, name: str, limited: LimitedInstance | None = None) -> Instance:
        """An instance to be run by a Python thread; ``limited`` as of :meth:`limit`. GIL: held."""
    def start_native(
        self,
        kind: str,
        parameters: Mapping[str, str],
        instances: Sequence[str],
        limited: Sequence[LimitedInstance | None] = (),
    ) -> None:
        """Have core threads run the native executor ``kind``, one for each name. GIL: released.

        ``limited``: of each instance, as of :meth:`limit`; empty where none has limits.

        Called again, with the same kind and parameters, it starts further threads or ends those too many, after their
        batch. Raises ValueError for an unknown kind or a bad parameter, with a text for the operator, and where the
        model is stopped.
        """
    def rehearse(
        self,
        inputs: Sequence[tuple[str, str, Sequence[int], bytes]],
        size: int,
        execute: Callable[[Batch], object] | None,
    ) -> str | None:
        """Call ``execute``, if there is one, with a batch of ``size`` requests that each have ``inputs``.

        Nothing is counted. ``inputs`` are (name, datatype, shape with the batch dimension of 1, data). For a model of
        sequences each request is a whole one. Returns the text of the first error that a request got, or why the model
        takes no such request. GIL: held.
        """
    def drain(self, timeout_s: float) -> bool:
        """Accept nothing more; wait until all that is accepted is answered. False at the time limit. GIL: released."""
    def stop(self) -> None:
        """Answer what is still queued with UNAVAILABLE, let every ``Instance.run`` return, join core threads.

        Idempotent. GIL: released.
        """
    def pending(self) -> int:
        """Requests queued and not yet executing. GIL: held."""

@final
class LimitedInstance:
    """What an instance has to hold while it executes; see :meth:`Model.limit`. GIL: held."""

@final
class Instance:
    """One instance of a model that is run by a Python thread."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def gil_wait(self) -> tuple[int, int]:
        """Executions of ``run`` so far, and the nanoseconds that they have waited for the GIL. GIL: held."""
    def run(self, execute: Callable[[Batch], None], any_thread: bool = False) -> None:
        """Pull batches and call ``execute`` with each until the model is stopped. Blocks.

        ``any_thread``: threads that wait in ``exec_call`` for this model may call ``execute`` while this one waits for
        a batch; never two at a time.

        GIL: released while waiting for, forming and answering a batch; taken once for each batch.
        Exceptions of ``execute`` become answers of code INTERNAL (or of the exception's ``code`` attribute, if it is
        the name of a code) and never end the loop; KeyboardInterrupt and SystemExit likewise.
        """
    def retire(self) -> None:
        """Let ``run`` return once what it has begun is done: its batch, and the sequences that it keeps.

        Other instances take what is queued; a call that none is left to execute is refused. Idempotent. GIL: released.
        """
    def poll(self) -> Batch | None:
        """The batch that is ripe now by the engine's clock, or None. Never blocks; for tests and simulation.

        GIL: held.
        """
    def wake_at_ns(self) -> int | None:
        """When the queue will be ripe without another request: a time of the engine's clock; None if it never will.

        GIL: held.
        """

@final
class WorkerLanes:
    """Memory that a server and one worker process share: lanes of messages. Raises RuntimeError."""

    def __init__(self) -> None:
        """GIL: held."""
    def fds(self) -> list[int]:
        """For the worker: those of WorkerGuest, those of WorkerCalls. Valid as long as this object. GIL: held."""

@final
class PlacedInputs:
    """Memory that a server shares with all workers of one model: large inputs are received there, and not copied again.

    Any thread. Raises RuntimeError where it can not be had.
    """

    def __init__(self) -> None:
        """GIL: held."""

@final
class WorkerSession:
    """One worker of a ``WorkerHost``, from its announcement to its end. Any thread."""

    def serve_calls(self) -> None:
        """Listen to the calls of models that the worker makes, on a thread of the core. Idempotent. GIL: held."""
    def stop_idle(self) -> bool:
        """Let the worker end, if it executes nothing and has nothing to answer apart; False otherwise. GIL: released.

        It is given no batch any more then.
        """

@final
class WorkerHost:
    """The server's end of one instance whose batches are executed by a worker process. Any thread.

    Lives as long as the instance; its workers come and go.
    """

    def __init__(
        self, execution_limit_s: float = 0.0, engine: Engine | None = None, inputs: PlacedInputs | None = None
    ) -> None:
        """A batch may take so long, in seconds; 0: any time. A worker that takes longer is killed. GIL: held.

        ``engine``: what workers may call models of; without one every call is answered with an error. ``inputs``: where
        large inputs are received once ``run`` is called.
        """
    @property
    def inputs_fd(self) -> int:
        """Its ``inputs``, for every worker of it; -1 where it has none. Valid as long as this object. GIL: held."""
    def announce(self, lanes: WorkerLanes, process_group: int) -> WorkerSession:
        """A worker was started that is given ``lanes``. GIL: held.

        ``process_group`` is killed where the worker must be, until ``end`` has returned: its leader must not be reaped
        before.
        """
    def attach(self, session: WorkerSession) -> None:
        """A worker that was announced is ready to execute: batches go to it from now on. GIL: held.

        The one that they went to before keeps what it has begun; see ``WorkerSession.stop_idle``.
        """
    def end(self, session: WorkerSession, code: str, message: str) -> None:
        """The process of a worker is gone: answer what it was executing, and was to answer apart, with that.

        The calls of models that it had open are cancelled. Idempotent. GIL: released.
        """
    def close(self, code: str, message: str) -> None:
        """There will be no more workers; a batch that none takes is answered with that. GIL: held."""
    def stop(self) -> None:
        """Let the workers end once they have executed what they were sent. GIL: released."""
    def execute(self, batch: Batch) -> None:
        """Have the worker execute ``batch``, which is not finished by this. Blocks. GIL: released."""
    def run(self, instance: Instance) -> None:
        """Pull batches and have the worker execute them until the model is stopped, ``instance`` is retired, or there
        will be no more workers. Blocks. GIL: released throughout, not taken for a batch.
        """
    @property
    def doorbell_fd(self) -> int:
        """Of its engine, for every worker of it. Valid as long as this object. GIL: held."""
    @property
    def executed(self) -> int:
        """How many batches workers have executed to their end."""

@final
class WorkerGuest:
    """The worker's end."""

    def __init__(self, requests_fd: int, answers_fd: int, inputs_fd: int, doorbell_fd: int) -> None:
        """Takes the descriptors over. Raises ValueError for what is no such memory. GIL: held."""
    def serve(self, execute: Callable[[Batch], object]) -> None:
        """Call ``execute`` with each batch until the server wants no more. Blocks. Raises RuntimeError for nonsense.

        GIL: released while waiting; taken once for each batch.
        """

@final
class WorkerCalls:
    """What the models of a worker process call others through: the ``engine`` of their ModelCall.

    ``announce`` is called before the first one, and must have the server call ``WorkerSession.serve_calls``. Takes the
    descriptors over. Raises ValueError for what is no such memory. GIL: held.
    """

    def __init__(self, calls_fd: int, responses_fd: int, announce: Callable[[], object]) -> None: ...

@final
class SharedValues:
    """131072 numbers, at first 0, that a server and the workers of a model share. Any thread, any process. GIL: held.

    With ``fd``: those that another process has made; takes it over. Raises RuntimeError where they can not be had.
    Each method is one atomic operation; they raise IndexError.
    """

    def __init__(self, fd: int | None = None) -> None: ...
    @property
    def count(self) -> int: ...
    def fileno(self) -> int:
        """Valid as long as this object."""
    def get(self, index: int) -> float: ...
    def set(self, index: int, value: float) -> None: ...
    def add(self, index: int, amount: float) -> None: ...

@final
class SharedMemoryRegistry:
    """Shared memory of clients, by region name; ``kind`` is ``system`` or ``cuda``. Any thread.

    Methods return a fault as (code, text), or None. GIL: released while memory is mapped, opened or unmapped.
    """

    def has_device(self) -> bool:
        """Whether device memory can be registered. Loads the CUDA driver, once. GIL: released."""
    def set_allowed(self, allowed: bool) -> None:
        """Whether clients may register anything; at first they may not."""
    def register_system(self, name: str, key: str, offset: int, byte_size: int) -> tuple[str, str] | None: ...
    def register_cuda(self, name: str, handle: bytes, device_id: int, byte_size: int) -> tuple[str, str] | None: ...
    def unregister(self, kind: str, name: str | None = None) -> tuple[str, str] | None:
        """One region, or all of ``kind``. Requests that use it keep it until they are answered."""
    def list(self, kind: str, name: str | None = None) -> tuple[list[dict[str, Any]], tuple[str, str] | None]:
        """One region, or all of ``kind``, by name; and the fault where it is not there."""

@final
class DeviceArray:
    """An input on a CUDA device, in memory that a client shares. Lent by DLPack without a copy. GIL: held.

    Whoever writes to what was lent writes to the client's memory.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    def to_host(self) -> NDArray[Any]:
        """A copy in memory of the host. GIL: released for the copy. Raises RuntimeError where the driver fails."""
    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: object = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A capsule of the ABI before 1.0. BufferError for another device, and where a copy is wanted."""
    def __dlpack_device__(self) -> tuple[int, int]: ...

@final
class BytesView:
    """A BYTES tensor as its bytes came: an element becomes an object only when it is asked for. GIL: held.

    Immutable; keeps the bytes alive. Elements are counted in row-major order, whatever the shape is.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        """Of the elements that an object array has now; those that are not bytes become their text in UTF-8."""
    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> bytes:
        """Raises IndexError beyond the ends."""
    def spans(self) -> NDArray[Any]:
        """INT64 [elements, 2]: where in :meth:`data` each element begins and ends."""
    def data(self) -> memoryview:
        """All bytes, with what is between the elements; read-only, not copied."""
    def numpy(self) -> NDArray[Any]:
        """A new object array of bytes, of :attr:`shape`."""

@final
class Batch:
    """Requests that are executed together. Valid until it is finished. One thread at a time. GIL: held.

    Requests are addressed by index 0..len-1. ``datatype`` is a wire name. BYTES tensors are object arrays of ``bytes``;
    BF16 tensors are uint16 arrays of the raw bits. Arrays are the executor's to write to and to keep: they are views of
    the received bytes, or copies where those are few or not aligned. Outputs of BYTES take bytes, str, and the text of
    any other object, as UTF-8. Shapes include the batch dimension where the model has one.
    """

    def __len__(self) -> int: ...
    @property
    def rows(self) -> int:
        """Sum of the requests' batch sizes (each at least 1)."""
    def packed(self) -> dict[str, NDArray[Any]]:
        """All inputs of the batch by name, concatenated along the batch dimension.

        One copy into a pooled buffer (GIL released for it); none where the batch holds one request, or where the
        requests' bytes lie one after the other. An input in a client's shared memory is then a view that can not be
        written to, and that the client may change; state of a sequence is such a view that nobody changes.
        """
    def input_names(self, index: int) -> list[str]: ...
    def input(self, index: int, name: str, lazy: bool = False) -> tuple[str, Any] | None:
        """(datatype, array) of one request's input, or None where the request has none of that name.

        The array is one of NumPy, a DeviceArray where the model was made with ``device_inputs``, and with ``lazy`` a
        BytesView where the datatype is BYTES.
        """
    def request_id(self, index: int) -> str: ...
    def requested_outputs(self, index: int) -> list[str]:
        """Names of the outputs asked for; all of the model's where the client named none."""
    def parameters(self, index: int) -> dict[str, str | int | float | bool]:
        """The custom request parameters."""
    def correlation_id(self, index: int) -> int | str:
        """Which sequence the request belongs to; 0 for none."""
    def flags(self, index: int) -> int:
        """1: start of a sequence; 2: its end; 3: both."""
    def priority(self, index: int) -> int:
        """As the client asked; 0 for the model's default."""
    def timeout_us(self, index: int) -> int:
        """As the client asked; 0 for the model's default."""
    def is_cancelled(self, index: int) -> bool: ...
    def trace_context(self, index: int) -> dict[str, str] | None:
        """The headers ``traceparent`` and ``tracestate`` of what the model does for the request (W3C Trace Context).

        None where the request is not traced, or traces do not become spans.
        """
    def trace(self, index: int) -> Trace | None:
        """What the request is traced in; None where it is not."""
    def call_parent(self, index: int) -> CallParent:
        """The request as one on whose behalf calls are made, to be asked for before it is detached."""
    def detach(self, index: int) -> Responder:
        """Take a request out of the batch, to be answered apart. It can not be asked about here any more.

        Raises RuntimeError if it is answered or detached already.
        """
    def reschedule(self, index: int, responder: Responder | None = None) -> bool:
        """Have a request executed once more, in a later batch, instead of an answer.

        ``responder`` is what :meth:`detach` gave out for it, if it did; it is ended by this. False where it had ended
        the request before. Raises RuntimeError where the model is not iterative, or the request is answered.
        """
    def respond_packed(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Answer all requests: each gets its rows of every output that it asked for, without a copy.

        An output with a wrong name, dtype or shape fails all requests with a text that names the fault.
        """
    def respond(
        self,
        index: int,
        outputs: Sequence[tuple[str, str, NDArray[Any] | BytesView]],
        parameters: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        """Answer one request with (name, datatype, array) outputs. Outputs that it did not ask for are dropped.

        Fails the request, naming the fault, where an output is unknown, missing or of wrong dtype or shape.
        Raises RuntimeError if it is answered already.
        """
    def fail(self, index: int, code: str, message: str) -> None:
        """Answer one request with an error; ``code`` as in ``error_table``.

        Raises RuntimeError if it is answered already.
        """
    def finish(self) -> None:
        """Send the answers. Called by ``Instance.run``; by hand after ``Instance.poll``. Idempotent."""

@final
class Responder:
    """One request that is answered apart from its batch: by several responses where its model is decoupled. Any thread.

    Methods that send return False, having sent nothing, where the request was ended before. A responder that goes
    before the last response ends its request with an error. GIL: released while a response is written.
    """

    def send(
        self,
        outputs: Sequence[tuple[str, str, NDArray[Any]]],
        parameters: Mapping[str, str | int | float | bool] | None = None,
        *,
        final: bool,
    ) -> bool:
        """Send a response of (name, datatype, array) outputs; see ``Batch.respond``. Shared arrays are copied.

        Blocks where it is a step of an ensemble whose ``max_inflight_requests`` keep its responses waiting.
        """
    def fail(self, code: str, message: str, *, final: bool) -> bool:
        """Send an error; ``code`` as in ``error_table``."""
    def end(self) -> bool:
        """There are no more responses."""
    @property
    def ended(self) -> bool: ...
    @property
    def decoupled(self) -> bool: ...
    def is_cancelled(self) -> bool:
        """True once nobody waits for responses any more, or the request was ended."""

@final
class Trace:
    """What one request is traced in: to be handed to what is to belong to it. GIL: held."""

@final
class CallMailbox:
    """Where an event loop learns which of its calls are answered. GIL: held."""

    def __init__(self) -> None: ...
    def fileno(self) -> int:
        """A descriptor that is readable while ``collect`` has something."""
    def collect(self) -> list[int]:
        """The numbers of the calls that were answered since the last time."""
    def close(self) -> None:
        """Later answers are not told."""

@final
class CallParent:
    """A request on whose behalf calls are made, also after its batch. GIL: held."""

@final
class ModelCall:
    """A request that a model makes of another one, begun by the constructor. Any thread.

    ``inputs`` are (name, datatype, array) each; ``outputs`` the names of those that are wanted, all where empty.
    ``batch`` is what the calling instance executes, if it does: the call is refused where the instance would wait for
    ever. It is made on behalf of the batch's requests and of ``parents``: it is cancelled when all of them are, and
    inherits what is left of their time in the queue where ``timeout_us`` is 0. ``trace``: what the call is to belong
    to. ``decoupled``: any number of responses is taken. ``waits``: arrays are not written to before the last response;
    otherwise large ones are copied. ``as_client``: errors have the texts and codes that clients get. Without
    ``dispatch`` it waits for a call that has it, so that both can share a batch.

    What is wrong with the call comes back as an error. GIL: released while the request is queued, or executed here.
    """

    def __init__(
        self,
        engine: Engine | WorkerCalls,
        model: str,
        version: int,
        inputs: Sequence[tuple[str, str, NDArray[Any]]],
        *,
        request_id: str = "",
        correlation_id: int | str = 0,
        flags: int = 0,
        timeout_us: int = 0,
        parameters: Mapping[str, bool | int | float | str] | None = None,
        outputs: Sequence[str] = (),
        batch: Batch | None = None,
        parents: Sequence[CallParent] = (),
        trace: Trace | None = None,
        decoupled: bool = False,
        waits: bool = True,
        as_client: bool = False,
        dispatch: bool = True,
    ) -> None: ...
    def next(
        self,
    ) -> tuple[list[tuple[str, str, Any]], tuple[str, str] | None, dict[str, Any], bool] | None:
        """Wait for the next response: outputs, (code, text) of an error, parameters, and whether it is the last.

        Outputs are (name, datatype, array) each, of BYTES with a BytesView.

        None once the last one was taken. GIL: released.
        """
    def poll(
        self,
    ) -> tuple[list[tuple[str, str, Any]], tuple[str, str] | None, dict[str, Any], bool] | None:
        """As ``next``, but does not wait: None as well where there is nothing yet. GIL: held."""
    @property
    def ended(self) -> bool:
        """Whether the last response is there, or was taken. GIL: held."""
    def notify(self, mailbox: CallMailbox, number: int) -> None:
        """Tell ``number`` to ``mailbox`` once the last response is there. GIL: held."""
    def cancel(self) -> None:
        """Nobody waits any more: what is queued is not executed, what is executed can see it. GIL: released."""

def exec_call(
    engine: Engine | WorkerCalls,
    model: str,
    version: int,
    inputs: Sequence[tuple[str, str, NDArray[Any]]],
    request_id: str,
    correlation_id: int | str,
    flags: int,
    timeout_us: int,
    parameters: Mapping[str, bool | int | float | str] | None,
    outputs: Sequence[str],
    batch: Batch | None,
    parents: Sequence[CallParent],
    trace: Trace | None,
    runs_callee: bool,
    /,
) -> tuple[list[tuple[str, str, Any]], tuple[str, str] | None, dict[str, Any], bool]:
    """Make a ModelCall of a model that is not decoupled, and wait for the answer, as ``ModelCall.next`` returns it.

    ``runs_callee``: this thread may execute the callee meanwhile, where an instance of it rests that does not mind the
    thread. GIL: released; taken for that.
    """

@final
class Mailbox:
    """Where answers reach one event loop, and where a burst of requests starts from. Loop thread, except where told.

    The loop watches ``fileno()`` for reading and calls ``flush()`` when it is readable, and once (``call_soon``) after
    any connection of the loop has received bytes: requests of one loop iteration are dispatched together, and answered
    with one write for each connection.
    """

    def __init__(self, engine: Engine) -> None:
        """GIL: held."""
    def fileno(self) -> int: ...
    def read_buffer(self) -> memoryview:
        """Where transports read into: the same memory for all connections. The mailbox must outlive the view.

        GIL: held.
        """
    def attend_doorbell(self) -> int:
        """A descriptor that is to be watched as well, until ``close``: ``flush(True)`` when it is readable.

        Worker processes ring there once somebody attends, and the thread of their instance does not look for what they
        answer. GIL: held.
        """
    def flush(self, rung: bool = False) -> tuple[list[tuple[int, bytes | list[bytes | memoryview], int]], float | None]:
        """Dispatch what was received, collect what was answered; where it ``rung``, also by worker processes.

        Returns (connection_id, data to write, what then) for every connection with something to do; data may be empty.
        Then: 1 to close it, 2 where it ``has_events``, 3 for both, 0 for nothing. Beside that, ``next_deadline()``.
        GIL: released.
        """
    def next_deadline(self) -> float | None:
        """Seconds until ``flush`` must be called although nothing happens, if that is within two seconds.

        To be asked once a second; each flush tells it as well. Deadlines need it, and an answer larger than one flush
        hands out. GIL: held.
        """
    def close(self) -> None:
        """Close the descriptor; later answers are dropped. GIL: held."""

@final
class HeaderForwarding:
    """Which headers of clients become parameters of their requests. Loop thread. GIL: held.

    ``pattern`` is a regular expression of RE2 that is found anywhere in a header's name, whatever its case; with
    ``(?-i)`` at its start it minds the case. Raises ValueError where it is no regular expression.
    """

    def __init__(self, pattern: str) -> None: ...
    def forwarded(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
        """The (name, value) that are to become parameters, in order.

        Raises ValueError, with a text for the client, where one has a name that the server reserves or a value that is
        not text.
        """

@final
class ParseJob:
    """The parsing of one large request body, to be called once on any thread. GIL: released."""

    def __call__(self) -> None: ...

@final
class InferHead:
    """What the head of an HTTP request for an inference says; it serves all that have the same. Immutable. GIL: held.

    ``kind`` is ``infer``, ``generate`` or ``generate_stream``; raises ValueError for another. ``version`` "" is the
    latest. ``header_length`` is the text of Inference-Header-Content-Length, None without it. ``chunked``: the client
    understands chunked answers. ``forwarded`` become parameters of the requests; a ``refusal`` is what they are
    answered instead of an inference. Nothing else is refused here: a fault answers the requests that have it.
    """

    def __init__(
        self,
        model: str,
        version: str,
        *,
        kind: str = "infer",
        header_length: str | None = None,
        content_encoding: str = "",
        accept_encoding: str = "",
        keep_alive: bool = True,
        chunked: bool = True,
        forwarded: Sequence[tuple[str, str]] = (),
        refusal: str = "",
    ) -> None: ...

@final
class KnownHeads:
    """Heads of requests that were parsed before, with which ``HttpConnection.take`` serves others. Loop thread.

    Two generations of at most ``capacity`` heads are kept: what is not used for long is forgotten. GIL: held.
    """

    def __init__(self, capacity: int) -> None: ...
    def add(self, data: bytes, head: InferHead, length: int) -> None:
        """The bytes of a head up to and with its empty line, what it says, and the length of the body that follows.

        Heads that end their connection, or whose body is compressed, are not kept.
        """

@final
class HttpConnection:
    """Infer requests and the order of answers of one HTTP/1.1 connection. Loop thread. GIL: held unless told.

    Answers leave in the order in which their requests came, whichever is ready first. The body of the request that is
    being received is collected here, in memory of the core.
    """

    def __init__(
        self, mailbox: Mailbox, connection_id: int, *, max_input_size: int = 67108864, max_body_size: int = 2147483647
    ) -> None: ...
    def append(self, chunk: bytes) -> bool:
        """Append to the current body; False (and nothing kept) where it would exceed ``max_body_size``."""
    def body_buffer(self, nbytes: int) -> memoryview:
        """Writable memory for at most ``nbytes`` more bytes of the current body, to be read into directly."""
    def body_filled(self, nbytes: int) -> None:
        """``nbytes`` were written into the last ``body_buffer``."""
    def body_size(self) -> int: ...
    def take_body(self) -> bytes:
        """The current body, for a control request; the next one starts empty."""
    def infer(
        self,
        head: InferHead,
        data: bytes = b"",
        start: int = 0,
        stop: int = 0,
        last: bool = False,
        traceparent: bytes = b"",
        tracestate: bytes = b"",
    ) -> ParseJob | None:
        """Start the inference whose body was collected, with ``data[start:stop]`` as the end of it.

        Its answer leaves by ``Mailbox.flush``; with ``last`` the connection closes after it. ``traceparent`` and
        ``tracestate`` are the headers of the client's trace, if it has one.

        Returns a job where the body is so large that its parsing would hold up the loop: the caller runs it on another
        thread. Never raises for bad input. GIL: released where the body is large.
        """
    def take(self, known: KnownHeads, nbytes: int) -> int:
        """Start the inferences whose whole requests are the first of ``nbytes`` in the mailbox's read buffer.

        Ends at the first request that is not complete, or whose head is not known; returns the bytes before it. Nothing
        of a body may be collected. Raises IndexError where there are not so many bytes. GIL: released where it is much.
        """
    def open(self) -> int:
        """A place in the order of answers, to be filled by ``respond``."""
    def respond(
        self,
        place: int,
        status: int,
        body: bytes | None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        keep_alive: bool = True,
    ) -> None:
        """Answer a control request; ``body`` is None where the request was HEAD. Content-Length is added otherwise.

        After an answer without ``keep_alive`` nothing more is sent.
        """
    def in_flight(self) -> int:
        """Places not yet answered."""
    def hang_up(self) -> None:
        """The client sends no more. It still gets its answers, but for streamed ones: they are cancelled."""
    def pause(self) -> None:
        """The transport's buffer is full: ``flush`` hands out nothing more for this connection."""
    def resume(self) -> None: ...
    def close(self) -> None:
        """The connection is lost: cancel its requests, drop its answers. Idempotent."""

@final
class GrpcOptions:
    """What the connections of a gRPC port share. Not to be changed once one is made. GIL: held.

    ``unary`` and ``streaming`` are the paths of the control RPCs. ``restricted``: path -> (key, value) of the header
    ``triton-grpc-protocol-<key>`` that its calls must have. ``response_compression`` (none, low, medium, high) and
    ``forwarding`` are of inference. A message that stands still for ``message_timeout_s`` ends its call; 0: never.
    Raises ValueError for an unknown level, or a restricted path that is not served.
    """

    def __init__(
        self,
        *,
        unary: Sequence[str] = (),
        streaming: Sequence[str] = (),
        restricted: Mapping[str, tuple[str, str]] = {},
        max_message_size: int = 2147483647,
        message_timeout_s: float = 30.0,
        max_concurrent_streams: int = 1024,
        response_compression: str = "none",
        forwarding: HeaderForwarding | None = None,
    ) -> None: ...
    def set_keepalive(
        self,
        *,
        time_ms: int = 7200000,
        timeout_ms: int = 20000,
        permit_without_calls: bool = False,
        max_pings_without_data: int = 2,
        min_recv_ping_interval_ms: int = 300000,
        max_ping_strikes: int = 2,
        max_connection_age_ms: int = 0,
        max_connection_age_grace_ms: int = 0,
    ) -> None:
        """gRPC's channel arguments of these names, with Triton's defaults: 2147483647 ms is for ever, and for the ages
        and the two maxima 0 is no limit."""

@final
class GrpcConnection:
    """One HTTP/2 connection speaking gRPC. Loop thread. GIL: held unless told.

    ModelInfer and ModelStreamInfer are decoded, submitted and answered without Python. Control RPCs are handed out by
    ``take_events``; unknown paths are answered UNIMPLEMENTED.
    """

    def __init__(self, mailbox: Mailbox, connection_id: int, options: GrpcOptions) -> None: ...
    def received(self, nbytes: int) -> int:
        """``nbytes`` were read into ``target()``, which is the mailbox's ``read_buffer()`` until told otherwise.

        1 where ``take_events`` has something, 2 where ``target()`` has changed, their sum, or 0. GIL: released where
        there is much to read.
        """
    def target(self) -> memoryview:
        """Where the next bytes are to be read to. It keeps its memory, but what is read there counts only once."""
    def has_events(self) -> bool:
        """Whether ``take_events`` has something; ``received`` and ``flush`` tell when that is new."""
    def take_events(self) -> list[tuple[int, str, str, bytes]]:
        """(call, event, path, request message) for what has happened to control RPCs.

        Events are "message" and, for those that stream, "end" (the client has sent everything) and "gone" (the call is
        over, and not by ``finish`` or ``fail``). A unary RPC has one "message" and is answered by ``respond`` or
        ``fail``. One that streams gets its next message after the last one was answered by ``send``.
        """
    def respond(self, call: int, message: bytes) -> None:
        """Answer a unary RPC. A call that is gone (reset, expired) is ignored, here and below."""
    def send(self, call: int, message: bytes) -> None:
        """One message of an RPC that streams."""
    def finish(self, call: int) -> None:
        """End an RPC that streams, with status OK."""
    def fail(self, call: int, code: str, message: str) -> None:
        """End a control RPC with an error; ``code`` as in ``error_table``."""
    def in_flight(self) -> int:
        """Calls not yet answered."""
    def unsent(self) -> int:
        """Bytes of answers that the client's flow control does not let out."""
    def drain(self) -> None:
        """Send GOAWAY and end the RPCs that stream; the connection closes itself once its calls are answered."""
    def pause(self) -> None:
        """The transport's buffer is full: ``flush`` hands out nothing more for this connection."""
    def resume(self) -> None: ...
    def close(self) -> None:
        """The connection is lost: cancel its calls, drop its answers. Idempotent."""

@final
class MetricModel:
    """One model version and what labels its samples in the metrics. Immutable. GIL: held.

    ``tags`` become labels ``_<tag>``, in which characters that a label name can not have are ``_``. A ``namespace`` of
    "" is none, and so is a ``gpu_uuid``, that of the device which all instances are on. The model is kept alive, but
    can be stopped.
    """

    def __init__(
        self,
        model: Model,
        *,
        namespace: str = "",
        tags: Mapping[str, str] = ...,
        gpu_uuid: str = "",
        load_seconds: float = 0.0,
    ) -> None: ...

def metrics_page(
    models: Sequence[MetricModel],
    families: Sequence[tuple[str, str, str, Sequence[tuple[str, Sequence[tuple[str, str]], float]]]] = (),
    *,
    latency_counters: bool = True,
) -> bytes:
    """All metrics in Prometheus' text format, UTF-8: those of ``models``, and ``families`` that belong to no model.

    A family is (``counter``, ``gauge`` or ``histogram``, name, help text, samples), a sample is (suffix of the name,
    labels, value): ``_bucket``, ``_sum`` and ``_count`` of a histogram. ``latency_counters`` False leaves the five
    cumulative durations out. Raises ValueError for another type of family. Any thread. GIL: released while the page is
    written.
    """

def statistics_json(models: Sequence[Model]) -> bytes:
    """What the statistics extension tells of ``models``, as JSON. Any thread. GIL: released while it is written."""

def statistics_message(models: Sequence[Model]) -> bytes:
    """The same as an ``inference.ModelStatisticsResponse``."""

@final
class LatencyHistogram:
    """Durations, counted by ranges at most 1/128 of their values wide: percentiles are within 0.4 % of the exact ones.

    Durations are nanoseconds, from 0 to 73 minutes. One thread at a time. GIL: held.
    """

    def __init__(self) -> None: ...
    def record(self, duration_ns: int, count: int = 1) -> None: ...
    def merge(self, other: LatencyHistogram) -> None:
        """Add what ``other`` holds; exact."""
    def percentile(self, percent: float) -> int:
        """The value with rank ceil(percent / 100 * count); 0 where there is nothing."""
    def corrected(self, interval_ns: int) -> LatencyHistogram:
        """What a client would have seen that sends each ``interval_ns``, whatever comes back."""
    def ranges(self) -> list[tuple[int, int]]:
        """(longest duration, count) of the ranges that hold something, ascending."""
    @property
    def count(self) -> int: ...
    @property
    def min_ns(self) -> int: ...
    @property
    def max_ns(self) -> int: ...
    @property
    def mean_ns(self) -> float: ...
    @property
    def deviation_ns(self) -> float: ...

@final
class ResponseTimes:
    """Of answers that are streams. ``tokens`` are those of output that the server tells, else responses. GIL: held.

    ``first``: from the intended time of sending to a request's first response. ``gap``: between a response and the next
    one. ``token``: of each successful request, from its first response to its last, for each token but the first.
    """

    @property
    def responses(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def first(self) -> LatencyHistogram: ...
    @property
    def gap(self) -> LatencyHistogram: ...
    @property
    def token(self) -> LatencyHistogram: ...

@final
class LoadWindow:
    """What a load has met in a window. Times are of the monotonic clock. A snapshot. GIL: held.

    Requests count in the window in which they end, and only successful ones have a latency, which is counted from the
    intended time of sending. ``send_ns`` and ``receive_ns`` are sums over those; ``cpu_ns`` is what the load's threads
    used. ``unanswered``, ``overdue`` (not even sent) and ``oldest_ns`` are of the window's end. ``records`` has five
    int64 for each request: intended, sent and ended (ns), number of the body, 1 for an error. ``response_records``
    has, in their order and where answers are streams, the number of responses and the time of each (ns); int64.
    ``sequence_records`` has the ids of their sequences, where they have any; int64.
    """

    def __init__(self) -> None: ...
    def merge(self, other: LoadWindow) -> None:
        """Add another window of the same load; times become those of both together."""
    @property
    def started_ns(self) -> int: ...
    @property
    def ended_ns(self) -> int: ...
    @property
    def latency(self) -> LatencyHistogram: ...
    @property
    def send_delay(self) -> LatencyHistogram: ...
    @property
    def errors(self) -> dict[str, int]: ...
    @property
    def failed(self) -> int: ...
    @property
    def connections_opened(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def send_ns(self) -> int: ...
    @property
    def receive_ns(self) -> int: ...
    @property
    def cpu_ns(self) -> int: ...
    @property
    def unanswered(self) -> int: ...
    @property
    def overdue(self) -> int: ...
    @property
    def oldest_ns(self) -> int: ...
    @property
    def streamed(self) -> ResponseTimes: ...
    @property
    def records(self) -> bytes: ...
    @property
    def response_records(self) -> bytes: ...
    @property
    def sequence_records(self) -> bytes: ...

@final
class CudaMemory:
    """Memory of a CUDA device that other processes can open by its ``handle``, as long as this lives. Any thread.

    Raises RuntimeError without a driver or such a device, or where it has not so much memory. GIL: released.
    """

    def __init__(self, device: int, byte_size: int) -> None: ...
    def write(self, offset: int, data: bytes) -> None:
        """Copy to the device. Raises RuntimeError where it does not fit, or the driver fails. GIL: released."""
    @property
    def handle(self) -> bytes:
        """A cudaIpcMemHandle_t. GIL: held."""

@final
class TlsClient:
    """TLS with a server, for any number of connections. GIL: held.

    ``host`` is what its certificate is to be of, a name or an IP address; ``alpn`` is ``h2``, which the server has to
    agree to, or ``http/1.1``. Files are in PEM, "" for none: the roots are those of the system then, and the client has
    no certificate. Raises ValueError for files that are not what they should be, RuntimeError without OpenSSL 3.
    """

    def __init__(
        self,
        *,
        host: str,
        alpn: str,
        root_certificates: str = "",
        certificate: str = "",
        private_key: str = "",
        verifies_peer: bool = True,
        verifies_host: bool = True,
    ) -> None: ...

@final
class LoadRun:
    """A load on a server: requests that are sent over and over from threads of its own. One thread calls it.

    ``protocol`` is ``grpc``, ``grpc_stream`` (ModelStreamInfer, one call a connection) or ``http``, ``address`` an IP
    address. Answers over HTTP may be streams of ``events``: those of ``generate`` or of ``openai``. ``streamed``:
    answers are, and each response is recorded. ``bodies`` are whole requests, in turn: a message with its five bytes of
    gRPC, or a whole request of HTTP/1.1. ``headers`` are those of each gRPC call, pseudo-headers first. ``concurrency``
    requests are in flight; with 0 they are sent at a ``rate`` (constant or ``poisson``; ``burst`` at a time), after
    ``intervals_ns`` over and over, or at ``times_ns`` from the start, once, whether or not answers come. At most
    ``max_requests`` (0: no limit). ``streams``: most requests at a time on a gRPC connection then. Lost connections are
    opened again; their requests count as errors. Raises ValueError for what does not fit together.

    ``ramp`` (empty: there is none) has the requests that are sent at ``start``, as many more as each ``step`` adds when
    those that were added last have had ``period`` responses each, or are over, and how many there are at the ``end``,
    which is the ``concurrency``: each of them is sent once.

    ``sequences`` (empty: there are none) has ``live`` sequences at a time (``concurrency``, in a closed loop) of
    ``length`` requests (0: as many as their data), up to the share ``variation`` more or less, with ids from
    ``first_id`` on to below ``end_id`` (0: without end), ``serial`` or not, whose bodies are those of ``data``, pairs
    of the first one and their number. Bodies over HTTP have load_sequence_fields() among their parameters, for the load
    to fill in. Sequences that are open when the load stops are ended by a request more. ``expected`` has for each body
    (name, bytes) of the outputs that it is to be answered with; another answer counts as an error. Connections are
    inside ``tls`` where there is one; a connection that does not come about counts as an error.

    ``chats`` (empty: there are none) are held once each, ``concurrency`` at a time: lists of turns, (number of the
    body, offset and size of its messages, nanoseconds from the answer to the next turn). What was said before is put
    before the messages. A chat ends with its first error.
    """

    def __init__(
        self,
        *,
        protocol: str,
        address: str,
        port: int,
        bodies: Sequence[bytes],
        headers: Sequence[tuple[str, str]] = (),
        threads: int = 1,
        connections: int = 1,
        streams: int = 256,
        concurrency: int = 0,
        rate: float = 0.0,
        poisson: bool = False,
        seed: int = 0,
        intervals_ns: Sequence[int] = (),
        times_ns: Sequence[int] = (),
        max_requests: int = 0,
        record: bool = False,
        streamed: bool = False,
        events: str = "generate",
        sequences: Mapping[str, object] = ...,
        expected: Sequence[Sequence[tuple[str, bytes]]] = (),
        burst: int = 1,
        ramp: Mapping[str, int] = ...,
        tls: TlsClient | None = None,
        chats: Sequence[Sequence[tuple[int, int, int, int]]] = (),
    ) -> None: ...
    def start(self) -> None:
        """Begin. GIL: released. Raises RuntimeError where the system gives no sockets."""
    def wait(self, seconds: float, requests: int = 0) -> int:
        """Wait until the time is up, ``requests`` (0: any) more have ended, or nothing is left; how many have ended.

        GIL: released.
        """
    def take(self) -> LoadWindow:
        """What was met since the start or the last ``take``. GIL: released."""
    def stop(self, drain_seconds: float = 0.0) -> LoadWindow:
        """Send nothing more, wait for answers as long as said, end; what was met since the last ``take``.

        Idempotent. GIL: released.
        """
    @property
    def responses(self) -> int:
        """So far, of answers that are streams: also those to requests that are not over."""
    @property
    def in_flight(self) -> int:
        """Requests that are sent and not answered."""
    @property
    def refused(self) -> int:
        """Connections so far that did not come about."""
    @property
    def exhausted(self) -> bool:
        """Nothing is left to be sent or answered."""

@final
class FakeServerReport:
    """What a fake server has done. A snapshot. GIL: held."""

    @property
    def inferences(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def injected(self) -> LatencyHistogram:
        """From when requests had come to when their answers were due."""
    @property
    def served(self) -> LatencyHistogram:
        """From when requests had come to when their answers were written."""
    @property
    def responses(self) -> int:
        """Of answers that are streams."""
    @property
    def first(self) -> LatencyHistogram:
        """From when requests had come to when the first response of each was written."""
    @property
    def gap(self) -> LatencyHistogram:
        """From when a response was written to when the next one was."""

@final
class FakeServerCore:
    """The server of :class:`pyinfer.testing.FakeServer`, which says what the arguments mean. Runs on its own thread.

    GIL: held unless told.
    """

    def __init__(
        self,
        *,
        delays_ns: Sequence[int],
        stalls_ns: Sequence[tuple[int, int]] = (),
        error_every: int = 0,
        answers: Mapping[str, str | bytes] = ...,
        http_answer: str | bytes,
        grpc_answer: str | bytes,
        event: str | bytes = "{}",
        responses: int = 1,
        gap_ns: int = 0,
    ) -> None: ...
    @property
    def port(self) -> int: ...
    def report(self) -> FakeServerReport: ...
    def stop(self) -> None:
        """Idempotent. GIL: released."""

def cuda_available() -> bool:
    """Whether there is a CUDA driver and a device. Any thread. GIL: released."""

def cuda_devices() -> list[tuple[str, int, int]]:
    """(UUID, major and minor compute capability) of each CUDA device of this process; none without a driver.

    A device that the driver does not describe is ("", 0, 0). Starts the driver, which may take a while. GIL: released.
    """

def load_sequence_fields() -> str:
    """The members of a JSON object that a load fills in where requests are steps of sequences. GIL: held."""

def grpc_call(
    address: str,
    port: int,
    headers: Sequence[tuple[str, str]],
    message: bytes,
    timeout_s: float,
    tls: TlsClient | None = None,
) -> tuple[str, bytes]:
    """One unary call on a connection of its own: (what went wrong, "" where nothing did; message of the answer).

    ``address`` is an IP address. Blocks. Any thread. GIL: released.
    """

def serialize_bytes(array: NDArray[Any]) -> bytes:
    """The wire form (4-byte little-endian length, then the bytes) of an object array of bytes or str. GIL: held."""

def end_with_parent(parent: int) -> None:
    """Have the system kill this process when the thread that started it ends; at once where ``parent`` is gone."""

def dlpack_to_host(capsule: object) -> tuple[str, NDArray[Any]]:
    """(datatype, array) of the row-major tensor on a CUDA device that ``capsule`` lends; the capsule is used up.

    Waits for the legacy default stream of the device. BF16 is a uint16 array of the raw bits.
    GIL: released for the copy. Raises ValueError where it can not be taken, RuntimeError where the driver fails.
    """

def deserialize_bytes(data: bytes | memoryview, count: int = -1) -> NDArray[Any]:
    """The object array [count] of bytes in the wire form ``data``.

    Raises ValueError where it is malformed. GIL: held.
    """

def error_table() -> dict[str, tuple[int, int]]:
    """Code name -> (HTTP status, gRPC status), the one table of the core. GIL: held."""

def build_info() -> dict[str, str]:
    """Compiler, flags, sanitizer and versions of the linked libraries. GIL: held."""
