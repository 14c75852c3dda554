import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;

/**
 * An unmodified program with the OpenTelemetry SDK for Java; OTEL_* says where it sends.
 *
 * <p>Send COUNT PAUSE: so many spans, log records and increments of a counter, with so many seconds between them.
 * What is left is exported at the end, by the SDK's own shutdown hook.
 */
public final class Send {
    private static final AttributeKey<Long> NUMBER = AttributeKey.longKey("number");

    public static void main(String[] arguments) throws InterruptedException {
        long count = Long.parseLong(arguments[0]);
        long pause = (long) (Double.parseDouble(arguments[1]) * 1000);
        OpenTelemetrySdk telemetry = AutoConfiguredOpenTelemetrySdk.initialize().getOpenTelemetrySdk();
        var tracer = telemetry.getTracer("e2e");
        var logger = telemetry.getLogsBridge().get("e2e");
        var counter = telemetry.getMeter("e2e").counterBuilder("steps").build();
        for (long number = 0; number < count; number++) {
            var span = tracer.spanBuilder("step").setAttribute(NUMBER, number).startSpan();
            try (var scope = span.makeCurrent()) {
                logger.logRecordBuilder()
                        .setSeverity(Severity.INFO)
                        .setBody("step " + number)
                        .setAttribute(NUMBER, number)
                        .emit();
                counter.add(1);
            } finally {
                span.end();
            }
            Thread.sleep(pause);
        }
    }
}
