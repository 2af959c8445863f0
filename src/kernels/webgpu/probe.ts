/**
 * What a GPU can do at most through WGSL: figures that benchmarks set results against. Each loop is
 * run with little and with so much more work that the difference can be timed: the way to the
 * device and back (some 11 ms in Deno) drops out of it.
 */
import { type Clock, systemClock } from "@/clock.ts";
import { packedDot } from "./shaders/numeric.ts";
import type { Kernel } from "./kernel.ts";
import { openDevice } from "./device.ts";
import { Machine } from "./machine.ts";
import type { Range } from "./storage.ts";

export interface DeviceLimits {
  /** Bytes of device memory read per second. */
  readonly readBytes: number;
  /** Operations per second, two per multiply-add: int8 in packed dot products. */
  readonly dotOps: number;
  /** The same in float32. */
  readonly f32Ops: number;
}

const SIZE = 256;
/** Far more than caches hold, as far as one binding may be so large. */
const READ_BYTES = 1024 * 1024 * 1024;
/** A processor that plays a GPU takes long enough for less. */
const SOFTWARE_READ_BYTES = 128 * 1024 * 1024;
/** Dispatches of the smaller of the two runs that are compared; the other has more of them … */
const LITTLE = 2;
const MUCH_MAX = 2048;
/** … so that it takes at least so much longer. */
const LEAST_SECONDS = 0.08;
const PEAK_GROUPS = 4096;
const PEAK_TURNS = 256;
/** Chains of dependent operations per invocation. */
const CHAINS = 8;

const read: Kernel = {
  name: "probe-read",
  tensors: { memory: { type: "vec4u" }, out: { type: "u32", written: true } },
  numbers: { vectors: "u32" },
  body: `
@compute @workgroup_size(${SIZE})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  var sum = vec4<u32>(0u);
  for (var i = id.x; i < p.vectors; i += ${SIZE}u * groups.x) { sum ^= memory_at(i); }
  if ((sum.x ^ sum.y ^ sum.z ^ sum.w) == 0x12345678u) { out_set(0u, id.x); }
}`,
};

function peak(name: string, options: { value: string; step: string }): Kernel {
  const { value, step } = options;
  return {
    name: `probe-${name}`,
    tensors: { out: { type: "u32", written: true } },
    numbers: { turns: "u32" },
    body: `${name === "dot" ? packedDot : ""}
@compute @workgroup_size(${SIZE})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  var chain: array<${value}, ${CHAINS}>;
  for (var c = 0u; c < ${CHAINS}u; c++) { chain[c] = ${value}(id.x + c); }
  for (var turn = 0u; turn < p.turns; turn++) {
    for (var c = 0u; c < ${CHAINS}u; c++) { chain[c] = ${step}; }
  }
  var sum = chain[0];
  for (var c = 1u; c < ${CHAINS}u; c++) { sum += chain[c]; }
  if (bitcast<u32>(sum) == 0x12345678u) { out_set(0u, id.x); }
}`,
  };
}

const f32Peak = peak("f32", { value: "f32", step: "fma(chain[c], 0.9999, 0.0001)" });
const dotPeak = peak("dot", {
  value: "i32",
  step: "chain[c] + dot4(bitcast<u32>(chain[c]), 0x01020304u + turn)",
});

/** Opens a device of its own. With `brief` the figures tell nothing. */
export async function measureDevice(
  options: { gpu?: GPU; clock?: Clock; brief?: boolean } = {},
): Promise<DeviceLimits> {
  const { clock = systemClock, brief = false } = options;
  const device = await openDevice(options.gpu ?? navigator.gpu);
  const machine = new Machine(device, { budgetBytes: Infinity, bindingBytesMax: Infinity });
  try {
    const share = brief ? 64 : 1;
    const readBytes = device.isSoftware ? SOFTWARE_READ_BYTES : READ_BYTES;
    const bytes = Math.min(readBytes, machine.bindingBytesMax) / share;
    const memory = wholeRange(machine, bytes);
    const out = wholeRange(machine, 16);
    const seconds = async (dispatches: number, record: () => void) => {
      const startMs = clock.nowMs();
      for (let i = 0; i < dispatches; i++) record();
      await machine.read([out]);
      return (clock.nowMs() - startMs) / 1000;
    };
    const perDispatch = async (record: () => void) => {
      await seconds(LITTLE, record); // compiles
      let best = Infinity;
      for (let repeat = 0, much = 2 * LITTLE; repeat < (brief ? 1 : 4); repeat++) {
        const little = await seconds(LITTLE, record);
        let more = await seconds(much, record) - little;
        while (!brief && more < LEAST_SECONDS && much < MUCH_MAX) {
          much *= 2;
          more = await seconds(much, record) - little;
        }
        best = Math.min(best, Math.max(1e-9, more / (much - LITTLE)));
      }
      return best;
    };
    const groups = PEAK_GROUPS / share;
    const operations = groups * SIZE * CHAINS * PEAK_TURNS;
    const run = (kernel: Kernel) => () =>
      machine.record(kernel, {
        tensors: { out },
        numbers: { turns: PEAK_TURNS },
        workgroups: [groups, 1],
      });
    return {
      readBytes: bytes / await perDispatch(() =>
        machine.record(read, {
          tensors: { memory, out },
          numbers: { vectors: Math.floor(bytes / 16) },
          workgroups: [PEAK_GROUPS, 1],
        })
      ),
      dotOps: 8 * operations / await perDispatch(run(dotPeak)),
      f32Ops: 2 * operations / await perDispatch(run(f32Peak)),
    };
  } finally {
    await machine.close();
  }
}

function wholeRange(machine: Machine, sizeBytes: number): Range {
  const block = machine.allocate(sizeBytes);
  return { block, byteOffset: 0, sizeBytes: block.sizeBytes };
}
