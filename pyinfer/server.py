# SPDX-License-Identifier: Apache-2.0
"""The composition root: options -> engine, service and frontends on one event loop; the life of the process.

Order of a start: bind the ports, load the models, serve. Order of a stop: not ready and no new request, listeners
closed, connections drained, models stopped. It does NOT parse the command line.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import uvloop

from pyinfer._core import Engine
from pyinfer.backends.find import end_backends, log_level_changed, metric_families
from pyinfer.config.foreign import IGNORED
from pyinfer.config.metrics import metrics_config
from pyinfer.config.options import Options
from pyinfer.config.restrictions import parse_restrictions
from pyinfer.errors import PyinferError, Unavailable
from pyinfer.frontends.control import ApiSite
from pyinfer.frontends.forwarding import HttpForwarding
from pyinfer.frontends.grpc import GrpcListener, GrpcSettings
from pyinfer.frontends.http import HttpLimits, HttpListener
from pyinfer.frontends.metrics import MetricsSite
from pyinfer.frontends.sockets import BACKLOG, bind
from pyinfer.frontends.stream import Connection, Stream
from pyinfer.gil_waits import gil_families
from pyinfer.loader import Loader, LoaderOptions
from pyinfer.repository.manager import ControlMode, ManagerOptions, ModelManager
from pyinfer.repository.open import open_repositories
from pyinfer.repository.scan import Repository
from pyinfer.response_cache import open_cache
from pyinfer.service import EXTENSIONS, Service
from pyinfer.shared_memory import SharedMemory
from pyinfer.telemetry.families import Family
from pyinfer.telemetry.log_format import log_table
from pyinfer.telemetry.logging import LogOptions, LogSettings
from pyinfer.telemetry.metrics import machine_families
from pyinfer.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Server", "serve"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
#: seconds that connections get to take their last answers once all models are done
_LAST_ANSWERS_S = 2.0
#: seconds that the last traces get to be written or sent
_LAST_TRACES_S = 5.0
#: seconds that a client has for its TLS handshake
_HANDSHAKE_S = 10.0


class Server:
    """One server. Make it, :meth:`run` it once, on the main thread if signals shall stop it."""

    def __init__(self, options: Options, log: LogSettings | None = None) -> None:
        """``log`` is what the logging extension shows and changes; without one that has no effect."""
        self.options = options
        self._log_settings = log
        if log is not None:
            log.watch(log_level_changed)
        #: "http", "grpc", "metrics" -> the port that is served; filled once the ports are bound
        self.ports: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()

    def run(self) -> int:
        """Serve until stopped; the exit status of the process. Raises PyinferError where the server can not start."""
        self._loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self._loop)
        try:
            with open_repositories(
                self.options.model_repository,
                self.options.model_files,
                cache_directory=self.options.repository_cache_directory,
                cache_bytes=self.options.repository_cache_byte_size,
            ) as repositories:
                return self._loop.run_until_complete(self._run(repositories))
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    def stop(self) -> None:
        """Begin to stop: accepted requests are answered first. Called again, do not wait for them. Any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_stop)

    def _on_stop(self) -> None:
        (self._stop_now if self._stop.is_set() else self._stop).set()

    async def _run(self, repositories: tuple[Repository, ...]) -> int:
        loop = asyncio.get_running_loop()
        _handle_signals(loop, self._on_stop)
        tls = self._tls()
        sockets = self._bind()
        engine = Engine()
        cache = open_cache(engine, self.options.cache_config, self.options.response_cache_byte_size, os.environ)
        if self.options.rate_limit == "execution_count":
            engine.set_rate_limiter(self.options.rate_limit_resource)
        elif self.options.rate_limit_resource:
            _log.warning("--rate-limit-resource has no effect without --rate-limit=execution_count")
        engine.shared_memory.set_allowed(self.options.allow_client_shm)
        tracing = _tracing(self.options, engine, sockets)
        loading = LoaderOptions.of(self.options)
        loader = Loader(engine, loading)
        service = Service(
            engine,
            _manager(self.options, engine, loader, repositories),
            server_id=self.options.id,
            strict_readiness=self.options.strict_readiness,
            metrics=self._metrics(),
            latency_counters=metrics_config(self.options.metrics_config).counter_latencies,
            log=self._log_settings,
            trace=tracing.settings,
            extensions=_extensions(self.options, engine),
            devices=loading.devices,
        )
        loader.control = service
        stream = Stream(loop, engine, max_connections=self.options.max_connections)
        try:
            failures = await _off_loop(loop, service.start)
            log_table(_log, ("Model", "Version", "Status"), service.model_table())
            for failure in failures:
                _log.error("%s", failure)
            if failures and self.options.exit_on_error:
                _log.error("a model failed to load at start; --exit-on-error=false serves the others")
                await _off_loop(loop, service.stop)
                return 1
            stream.start()
            servers = await self._listen(sockets, stream, service, tls)
            await self._stop.wait()
            return await self._shut_down(loop, servers, stream, service)
        finally:
            stream.close()
            if cache is not None:
                await _off_loop(loop, cache.close)
            # what it still has to send may take long, or for ever
            await asyncio.wait((_off_loop(loop, tracing.close),), timeout=_LAST_TRACES_S)
            for listener in sockets.values():
                listener.close()

    def _metrics(self) -> list[Callable[[], list[Family]]]:
        if not (options := self.options).allow_metrics:
            return []
        readers = machine_families(
            cpu=options.allow_cpu_metrics, gpu=options.allow_gpu_metrics, interval_ms=options.metrics_interval_ms
        )
        return [*readers, metric_families, gil_families, *([self._log_settings.families] if self._log_settings else [])]

    def _bind(self) -> dict[str, socket.socket]:
        options = self.options
        wanted = {
            "grpc": (options.allow_grpc, options.grpc_address, options.grpc_port, options.reuse_grpc_port),
            "http": (options.allow_http, options.http_address, options.http_port, options.reuse_http_port),
            "metrics": (options.allow_metrics, options.metrics_address, options.metrics_port, False),
        }
        sockets: dict[str, socket.socket] = {}
        try:
            for name, (allowed, address, port, reuse_port) in wanted.items():
                if allowed:
                    sockets[name] = bind(address, port, reuse_port=reuse_port)
        except PyinferError:
            for listener in sockets.values():
                listener.close()
            raise
        self.ports = {name: listener.getsockname()[1] for name, listener in sockets.items()}
        return sockets

    def _tls(self) -> SSLContext | None:
        options = self.options
        if not (options.grpc_use_ssl and options.allow_grpc):
            return None
        from pyinfer.frontends.tls import grpc_context

        return grpc_context(
            options.grpc_server_cert,
            options.grpc_server_key,
            options.grpc_root_cert,
            mutual=options.grpc_use_ssl_mutual,
        )

    async def _listen(
        self, sockets: dict[str, socket.socket], stream: Stream, service: Service, tls: SSLContext | None
    ) -> list[asyncio.AbstractServer]:
        loop = asyncio.get_running_loop()
        options = self.options
        limits = HttpLimits(
            max_input_size=options.http_max_input_size,
            header_seconds=options.http_header_timeout_secs,
            body_seconds=options.http_body_timeout_secs,
            idle_seconds=options.idle_timeout_secs,
        )
        restrictions = parse_restrictions(options.http_restricted_api)
        # the keys are no business of models
        forwarding = HttpForwarding(options.http_header_forward_pattern, (key for key, _ in restrictions.values()))
        factories: dict[str, tuple[str, Callable[[], Connection]]] = {
            "grpc": (
                "GRPCInferenceService",
                GrpcListener(stream, service, _grpc_settings(options), tls=tls is not None),
            ),
            "http": (
                "HTTPService",
                HttpListener(stream, ApiSite(service, restrictions), limits, forwarding),
            ),
            "metrics": (
                "Metrics Service",
                HttpListener(stream, MetricsSite(service.metrics, service.metrics_take_long), limits),
            ),
        }
        servers: list[asyncio.AbstractServer] = []
        for name, listener in sockets.items():
            title, factory = factories[name]
            host, port = listener.getsockname()[:2]
            try:
                encryption = tls if name == "grpc" else None
                server = await loop.create_server(
                    factory,
                    sock=listener,
                    backlog=BACKLOG,
                    ssl=encryption,
                    ssl_handshake_timeout=_HANDSHAKE_S if encryption else None,
                )
            except OSError:
                raise Unavailable(f"Socket '{host}:{port}' already in use") from None
            servers.append(server)
            _log.info("Started %s at %s:%d", title, host, port)
        _log.info("All services are started.")
        return servers

    async def _shut_down(
        self,
        loop: asyncio.AbstractEventLoop,
        servers: list[asyncio.AbstractServer],
        stream: Stream,
        service: Service,
    ) -> int:
        _log.info("Waiting for in-flight requests to complete.")
        until = loop.time() + self.options.exit_timeout_secs
        service.begin_stop()
        for server in servers:
            server.close()
        stream.drain()
        stopped = _off_loop(loop, lambda: service.stop(self.options.exit_timeout_secs))
        at_once = asyncio.ensure_future(self._stop_now.wait())
        await asyncio.wait((stopped, at_once), timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED)
        in_time = stopped.done() and stopped.result()
        if in_time:
            gone = asyncio.ensure_future(stream.empty.wait())
            await asyncio.wait(
                (gone, at_once), timeout=min(_LAST_ANSWERS_S, until - loop.time()), return_when=asyncio.FIRST_COMPLETED
            )
            gone.cancel()
            _log.info("All requests are answered, all models are stopped.")
        elif at_once.done():
            _log.warning("Stopped before all requests were answered, because a second signal asked for it.")
        else:
            _log.warning("Exit timeout expired. Exiting immediately.")
        at_once.cancel()
        return 0


def _off_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], _T]) -> asyncio.Future[_T]:
    """The result of ``work``, run on a thread of its own that does not keep the process alive."""
    future: asyncio.Future[_T] = loop.create_future()

    def deliver(result: _T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, result, failure)

    threading.Thread(target=run, name="server", daemon=True).start()
    return future


def _handle_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # A closed terminal or a vanished reader of a pipe is no reason to stop serving.
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def _tracing(options: Options, engine: Engine, sockets: dict[str, socket.socket]) -> Tracing:
    """Raises PyinferError, and closes ``sockets``, where traces can not be exported."""
    try:
        return Tracing(engine.tracer, options.trace_options())
    except PyinferError:
        for listener in sockets.values():
            listener.close()
        raise


def _extensions(options: Options, engine: Engine) -> tuple[str, ...]:
    """In Triton's order."""
    shared = SharedMemory(engine.shared_memory).extensions() if options.allow_client_shm else ()
    after = EXTENSIONS.index("model_configuration") + 1
    return (*EXTENSIONS[:after], *shared, *EXTENSIONS[after:])


def _grpc_settings(options: Options) -> GrpcSettings:
    return GrpcSettings(
        max_message_size=options.grpc_max_message_size,
        message_seconds=options.grpc_message_timeout_secs,
        restrictions=parse_restrictions(options.grpc_restricted_protocol, "protocol"),
        header_forward_pattern=options.grpc_header_forward_pattern,
        response_compression=options.grpc_infer_response_compression_level,
        keepalive={
            "time_ms": options.grpc_keepalive_time,
            "timeout_ms": options.grpc_keepalive_timeout,
            "permit_without_calls": options.grpc_keepalive_permit_without_calls,
            "max_pings_without_data": options.grpc_http2_max_pings_without_data,
            "min_recv_ping_interval_ms": options.grpc_http2_min_recv_ping_interval_without_data,
            "max_ping_strikes": options.grpc_http2_max_ping_strikes,
            "max_connection_age_ms": options.grpc_max_connection_age,
            "max_connection_age_grace_ms": options.grpc_max_connection_age_grace,
        },
    )


def _manager(options: Options, engine: Engine, loader: Loader, repositories: tuple[Repository, ...]) -> ModelManager:
    return ModelManager(
        ManagerOptions(
            repositories=repositories,
            mode=ControlMode(options.model_control_mode),
            startup_models=options.load_model,
            poll_seconds=options.repository_poll_secs,
            namespacing=options.model_namespacing,
            load_thread_count=options.model_load_thread_count,
            load_retry_count=options.model_load_retry_count,
        ),
        loader,
        engine,
    )


def serve(options: Options) -> int:
    """Run a server as this process: logging, exit status, and an end even where a model's thread hangs."""
    try:
        log = LogSettings(
            LogOptions(
                verbose=options.log_verbose,
                info=options.log_info,
                warning=options.log_warning,
                error=options.log_error,
                format=options.log_format,
                file=options.log_file,
            )
        )
    except OSError as error:
        logging.getLogger().error("can not write the log file: %s", error.strerror)
        return 1
    log.install()
    for name in options.ignored:
        _log.warning("--%s has no effect in pyinfer: %s", name, IGNORED[name])
    try:
        status = Server(options, log).run()
    except PyinferError as error:
        _log.error("%s", error)
        status = 1
    end_backends()
    logging.shutdown()
    if threading.active_count() > 1:
        # a model that never returns holds its thread; the interpreter would wait for it for ever
        os._exit(status)
    return status
