import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { systemClock } from "@/clock.ts";
import { measureStep, openStepTask, stepFlops } from "./training_step.ts";

const nano = fileURLToPath(new URL("../../models/nano", import.meta.url));

Deno.test("openStepTask() makes one batch of samples of equal length", async () => {
  const { batch, samples, config } = await openStepTask(nano);
  assert.equal(batch.starts.length, samples + 1);
  const lengths = new Set(Array.from(batch.starts.subarray(1), (end, i) => end - batch.starts[i]!));
  assert.equal(lengths.size, 1);
  const { tileSize } = config.preprocess;
  assert.equal(batch.tiles.length, samples * tileSize * tileSize * 3);
});

Deno.test("stepFlops() counts three products of each weight and row", async () => {
  const task = await openStepTask(nano);
  const { config: { vision, decoder }, batch } = task;
  // One more layer costs its weights three times, twice that in operations, and attention.
  const deeper = { ...task, config: { ...task.config, decoder: { ...decoder, layers: 5 } } };
  const weights = 4 * 128 * 128 + 3 * 128 * 344;
  const rows = batch.tokenIds.length;
  const attention = 2 * 128 * (rows / task.samples + 1) / 2;
  assert.equal(stepFlops(deeper) - stepFlops(task), 6 * rows * (weights + attention));
  const wider = { ...vision, intermediateWidth: vision.intermediateWidth + 1 };
  const more = stepFlops({ ...task, config: { ...task.config, vision: wider } }) - stepFlops(task);
  assert.equal(more, 6 * 16 * 256 * 5 * 3 * 128);
});

Deno.test("measureStep() does the same step with any number of threads", async () => {
  const task = await openStepTask(nano);
  const options = { warmups: 0, repeats: 1, clock: systemClock };
  const one = await measureStep(task, { ...options, threads: 1 });
  const two = await measureStep(task, { ...options, threads: 2 });
  assert.equal(one.seconds.length, 1);
  assert.ok(one.loss > 0 && one.gradientNorm > 0);
  assert.deepEqual([one.loss, one.gradientNorm], [two.loss, two.gradientNorm]);
});
