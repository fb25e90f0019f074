"""From the settings to whoever makes spans: nothing where tracing is off, and then nothing is loaded."""

from typing import TYPE_CHECKING, Final

from perdure.gateway.settings import SettingsError, Tracing

if TYPE_CHECKING:
    from perdure.embedded import System
    from perdure.gateway.tracing import SpanMaker

_TIMEOUT_S: Final = (
    3.0  # of sending a batch, retries included; the end of the server waits for the last
)


def make_spans(settings: Tracing) -> "SpanMaker | None":
    """Raises SettingsError where the extra is not installed."""
    if not settings.endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from perdure.gateway.tracing import SpanMaker
    except ModuleNotFoundError as e:
        raise SettingsError(
            f"'tracing.endpoint' is set, and {e.name} is not installed: pip install 'perdure[otel]'"
        ) from e
    exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=_TIMEOUT_S)
    return SpanMaker(
        BatchSpanProcessor(exporter),
        service_name=settings.service_name,
        sample_ratio=settings.sample_ratio,
    )


def attach(spans: "SpanMaker", system: "System") -> None:
    """From the start of ``system`` on; call it before."""
    from perdure.gateway.tracing import enter

    system.on_enter = enter
    system.observer = spans
