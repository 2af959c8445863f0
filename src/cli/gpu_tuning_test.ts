import assert from "node:assert/strict";
import type { Device } from "@/kernels/webgpu/device.ts";
import { defaultTuning } from "@/kernels/webgpu/tuning.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { inTemporaryFolder } from "../../tests/temporary_folder.ts";
import { knownTuning, newTuning } from "./gpu_tuning.ts";

/** What of a device names its file. */
const deviceOf = (identity: string) => ({ identity, adapterName: identity }) as Device;

Deno.test("newTuning() keeps what it measured for one adapter; knownTuning() finds it", () =>
  inTemporaryFolder(async (folder) => {
    const [here, other] = [deviceOf("card"), deviceOf("other card")];
    const tuning = { ...defaultTuning, q4: { vectorPanels: 4, tileRows: [2, 2, 4, 4] } } as const;
    let searches = 0;
    const search = () => (searches++, Promise.resolve(tuning));
    assert.equal(await knownTuning(here, { folder }), undefined);
    assert.equal(await newTuning(here, { log: silentLogger, folder, search }), tuning);
    assert.deepEqual(await knownTuning(here, { folder }), tuning);
    assert.equal(await knownTuning(other, { folder }), undefined);
    assert.equal(searches, 1);
    const [file, ...rest] = [...Deno.readDirSync(folder)].map(({ name }) => `${folder}/${name}`);
    assert.deepEqual(rest, []);
    for (const spoilt of ["{", "{}", JSON.stringify({ tuning: { q4: 1 } })]) {
      await Deno.writeTextFile(file!, spoilt);
      assert.equal(await knownTuning(here, { folder }), undefined);
    }
  }));

Deno.test("newTuning() goes on when it cannot keep what it measured", async () => {
  const search = () => Promise.resolve(defaultTuning);
  const options = { log: silentLogger, folder: "/dev/null/nowhere", search };
  assert.equal(await newTuning(deviceOf("card"), options), defaultTuning);
});
