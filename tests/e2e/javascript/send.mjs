// An unmodified program with the OpenTelemetry SDK for JavaScript; OTEL_* says where it sends.
//
// send.mjs COUNT PAUSE: so many spans, log records and increments of a counter, with so many seconds between them.

import { setTimeout } from "node:timers/promises";

import { logs, metrics, SeverityNumber, trace } from "@opentelemetry/api";
import { NodeSDK } from "@opentelemetry/sdk-node";

const [count, pause] = process.argv.slice(2).map(Number);
const sdk = new NodeSDK();
sdk.start();

const tracer = trace.getTracer("e2e");
const logger = logs.getLogger("e2e");
const counter = metrics.getMeter("e2e").createCounter("steps");
for (let number = 0; number < count; number++) {
  tracer.startActiveSpan("step", { attributes: { number } }, (span) => {
    logger.emit({ severityNumber: SeverityNumber.INFO, body: `step ${number}`, attributes: { number } });
    counter.add(1);
    span.end();
  });
  await setTimeout(pause * 1000);
}
await sdk.shutdown();
