import { equal, ok } from "node:assert/strict";
import { divergence } from "./parity_quant.ts";

const close = (actual: number, expected: number) =>
  ok(Math.abs(actual - expected) < 1e-6, `${actual}, expected ${expected}`);

Deno.test("divergence() is zero for equal distributions, however the logits are shifted", () => {
  const logits = Float32Array.of(1, -2, 0.5);
  equal(divergence(logits, logits), 0);
  close(divergence(logits, logits.map((value) => value + 100)), 0);
});

Deno.test("divergence() is the sum of p log p/q, in nats", () => {
  const logs = (...values: number[]) => Float32Array.from(values, Math.log);
  close(divergence(logs(0.5, 0.5), logs(0.25, 0.75)), 0.5 * Math.log(2) + 0.5 * Math.log(2 / 3));
  close(divergence(logs(0.9, 0.1), logs(0.1, 0.9)), 0.8 * Math.log(9));
});
