import assert from "node:assert/strict";
import { systemClock } from "@/clock.ts";
import { optionalTest } from "../../../tests/skip.ts";
import { adapterObstacle, openDevice } from "./device.ts";
import { defaultTuning, parseTuning, tileRowsOf, tuningText } from "./tuning.ts";
import { searchTuning } from "./tuning_search.ts";

const webGpu = { tool: "webgpu", missing: await adapterObstacle(navigator.gpu) };

Deno.test("parseTuning() takes what JSON keeps of a tuning, and nothing else", () => {
  const kept = JSON.parse(JSON.stringify(defaultTuning));
  assert.deepEqual(parseTuning(kept), defaultTuning);
  for (const spoilt of [undefined, 7, {}, { ...kept, q4: undefined }]) {
    assert.equal(parseTuning(spoilt), undefined);
  }
  assert.equal(
    parseTuning({ ...kept, q8: { vectorPanels: 3, tileRows: [1, 2, 4, 8] } }),
    undefined,
  );
  assert.equal(parseTuning({ ...kept, q8: { vectorPanels: 2, tileRows: [1, 2, 4] } }), undefined);
  assert.equal(
    parseTuning({ ...kept, q8: { vectorPanels: 2, tileRows: [1, 2, 4, 3] } }),
    undefined,
  );
});

Deno.test("tileRowsOf() gives the choice of the class of rows", () => {
  const rows = [9, 16, 17, 32, 33, 96, 97, 5000].map((count) =>
    tileRowsOf(defaultTuning.q4, count)
  );
  assert.deepEqual(rows, [1, 1, 2, 2, 4, 4, 8, 8]);
  assert.match(tuningText(defaultTuning), /^f32: panels 1, rows 1\/2\/4\/8; /);
});

optionalTest(
  { name: "searchTuning() measures every choice of every format", needs: [webGpu] },
  async () => {
    const device = await openDevice(navigator.gpu);
    // Everything seems to take the same time.
    let nowMs = 0;
    const clock = { ...systemClock, nowMs: () => nowMs += 70 };
    const constant = await searchTuning(device, { width: 32, clock });
    assert.deepEqual(constant, defaultTuning, "nothing is clearly faster");
    const tuning = await searchTuning(device, { width: 64 });
    assert.deepEqual(parseTuning(JSON.parse(JSON.stringify(tuning))), tuning);
    device.gpu.destroy();
  },
);
