/** GPU and wasm nodes in one cluster: who may work with whom, and what happens when a GPU is lost. */
import assert from "node:assert/strict";
import { ShardExperts } from "@/cli/shard_experts.ts";
import { OperatingError } from "@/errors.ts";
import { ExpertStore } from "@/model/expert_store.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { GpuDevices } from "../gpu_devices.ts";
import { webGpu } from "../kernels/backends.ts";
import { fixtureFolder } from "../server/server_process.ts";
import { eventually } from "../patience.ts";
import { optionalTest } from "../skip.ts";
import { FrontRig, type RigOptions } from "./front_rig.ts";
import { ShardProcess } from "./shard_process.ts";

const PROMPT = "Which experts answer?";
const onGpu = ["--backend", "webgpu"];

async function answerOf(options: RigOptions) {
  await using rig = await FrontRig.open(options);
  await rig.covered();
  return await rig.answer(PROMPT);
}

/** How often a node answered with results of experts. */
function callsTo(rig: FrontRig, node: string): number {
  const { nodes } = rig.serving.cluster!.status();
  return nodes.find(({ id }) => id === node)?.calls.results ?? 0;
}

optionalTest(
  { name: "GPU shards give a GPU server the bits of a single GPU process", needs: [webGpu] },
  async () => {
    await using shard = await ShardProcess.start("gpu-1", ["--quant", "q8", ...onGpu]);
    await using other = await ShardProcess.start("gpu-2", ["--quant", "q8", ...onGpu]);
    const addresses = [shard.address, other.address];
    const alone = await answerOf({ quantisation: "q8", backend: "webgpu" });
    const shared = await answerOf({ quantisation: "q8", backend: "webgpu", addresses });
    assert.deepEqual(shared, alone);
  },
);

optionalTest(
  {
    name: "a server takes shards of its own class alone, and says how it would take others",
    needs: [webGpu],
  },
  async () => {
    await using shard = await ShardProcess.start("gpu-1", onGpu);
    const addresses = [shard.address];
    await using rig = await FrontRig.open({ quantisation: "none", addresses });
    const silent = () => rig.serving.cluster!.status().silent;
    await eventually("it is refused", () => silent().length > 0);
    assert.match(silent()[0]?.problem ?? "", /its numeric class is .*--mixed-classes takes both/);
    assert.equal((await rig.post(PROMPT, 4)).status, 503);
  },
);

optionalTest(
  { name: "a server with --mixed-classes computes on GPU and wasm shards", needs: [webGpu] },
  async () => {
    await using shard = await ShardProcess.start("gpu-1", ["--experts", "0-3", ...onGpu]);
    await using other = await ShardProcess.start("cpu-1", ["--experts", "4-7"]);
    const addresses = [shard.address, other.address];
    const alone = await answerOf({ quantisation: "none" });
    await using rig = await FrontRig.open({
      ...{ quantisation: "none", addresses },
      cluster: { mixedClasses: true },
    });
    await rig.covered();
    const { tokens } = await rig.answer(PROMPT);
    // Not promised, but classes differ by roundings only.
    assert.deepEqual(tokens, alone.tokens);
    assert.match(rig.serving.served.numericClass, /\/mixed$/);
    for (const node of ["gpu-1", "cpu-1"]) assert.ok(callsTo(rig, node) > 0, node);
  },
);

optionalTest(
  { name: "ShardExperts moves to wasm with all its experts when its GPU is lost", needs: [webGpu] },
  async () => {
    using devices = new GpuDevices();
    const openStore = () => ExpertStore.open({ folder: diskFolder(fixtureFolder("moe")) });
    const open = (name: "webgpu" | "wasm") =>
      ShardExperts.open({ backend: { name, threads: 1 }, openStore, log: silentLogger });
    const experts = await open("webgpu");
    const wasm = await open("wasm");
    const store = await openStore();
    const layer = store.layers[0]!;
    store.close();
    const rows = Float32Array.from({ length: experts.width }, (_, i) => Math.sin(i));
    const pairs = { layer, rows, rowOfPair: [0, 0], expertOfPair: [1, 3] };
    for (const expert of [1, 3]) {
      await experts.load({ layer, expert });
      await wasm.load({ layer, expert });
    }
    const resultsOf = async (computer: ShardExperts) => {
      const out = new Float32Array(2 * computer.width);
      await computer.compute(pairs, out);
      return out;
    };
    let moves = 0;
    experts.onMove(() => moves++);
    assert.equal(experts.backend.name, "webgpu");
    await resultsOf(experts);
    devices.destroyAll();
    await assert.rejects(resultsOf(experts), OperatingError);
    assert.equal(experts.backend.name, "wasm");
    assert.deepEqual(await resultsOf(experts), await resultsOf(wasm));
    assert.equal(moves, 1);
    await experts.close();
    await wasm.close();
  },
);

optionalTest(
  { name: "a cluster's server goes on with wasm kernels when its GPU is lost", needs: [webGpu] },
  async () => {
    await using shard = await ShardProcess.start("cpu-1");
    const options = { quantisation: "none", addresses: [shard.address] } as const;
    const alone = await answerOf(options);
    using devices = new GpuDevices();
    const metrics = new Metrics();
    await using rig = await FrontRig.open({
      ...options,
      ...{ backend: "webgpu", metrics },
      cluster: { mixedClasses: true, localExperts: "none" },
    });
    await rig.covered();
    const answering = rig.answer(PROMPT);
    answering.catch(() => {}); // it is awaited below
    await eventually("the shard has answered", () => callsTo(rig, "cpu-1") >= 8, 5);
    devices.destroyAll();
    assert.deepEqual((await answering).tokens, alone.tokens);
    assert.match(metrics.render(), /flotilla_backend_fallbacks_total\{when="running"\} 1/);
    assert.match(rig.serving.served.numericClass, /^wasm/);
    await rig.covered();
    assert.ok(callsTo(rig, "cpu-1") > 0);
  },
);
