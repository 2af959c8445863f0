/** Where the time of a step, a prompt or a tile goes, by op. A diagnosis beside the rows. */
import type { Clock } from "@/clock.ts";
import type { WasmBackendOptions } from "@/kernels/wasm/backend.ts";
import { OpProfile, type OpTime } from "@/kernels/wasm/profile.ts";
import { encodeTile, prefill } from "./measurements.ts";
import type { Group } from "./plan.ts";
import { Rig } from "./rig.ts";

/** Steps that are averaged, after as many that only warm up. */
const STEPS = 32;
const PROMPT_TOKENS = 128;

export interface ProfileReport {
  readonly title: string;
  /** Times of one step, prompt or tile. */
  readonly ops: readonly OpTime[];
}

/** Opens the group's model on a backend that books its ops: a tower's tile, else both others. */
export async function profileGroup(options: {
  group: Group;
  shapesFolder: string;
  backend: WasmBackendOptions;
  clock: Clock;
}): Promise<ProfileReport[]> {
  const { group, shapesFolder, backend, clock } = options;
  const profile = new OpProfile(clock);
  const rig = await Rig.open({
    folder: `${shapesFolder}/${group.folder}`,
    precision: group.precision,
    backend: { name: "wasm", ...backend, profile },
    clock,
  });
  try {
    const of = `${group.shape} ${group.format}`;
    if (group.shape === "vit") {
      await encodeTile(rig);
      profile.take();
      await encodeTile(rig);
      return [{ title: `one tile of ${of}`, ops: profile.take() }];
    }
    await prefill(rig, PROMPT_TOKENS);
    profile.take();
    await prefill(rig, PROMPT_TOKENS);
    const prompt = profile.take();
    // The step of the prompt's only token is one of the averaged ones: it is alike.
    await rig.generate({ ids: rig.promptIds(1) }, STEPS);
    profile.take();
    await rig.generate({ ids: rig.promptIds(1) }, STEPS);
    const steps = profile.take().map((op) => {
      return { ...op, count: op.count / STEPS, ms: op.ms / STEPS };
    });
    return [
      { title: `one decode step of ${of}`, ops: steps },
      { title: `a prompt of ${PROMPT_TOKENS} tokens of ${of}`, ops: prompt },
    ];
  } finally {
    await rig.close();
  }
}

/** Lines of a table, the costliest op first: its count times its median. */
export function profileLines({ title, ops }: ProfileReport): string[] {
  const total = ops.reduce((sum, { count, medianMs }) => sum + count * medianMs, 0);
  const mean = ops.reduce((sum, { ms }) => sum + ms, 0);
  const lines = ops.map(({ name, count, medianMs }) => {
    const ms = count * medianMs;
    const share = `${(100 * ms / total).toFixed(1)} %`.padStart(7);
    return `${ms.toFixed(3).padStart(10)} ms ${share} ${count.toFixed(0).padStart(5)} × ${name}`;
  });
  const totals = `${total.toFixed(2)} ms by medians, ${mean.toFixed(2)} ms by means`;
  return [`Ops of ${title}: ${totals}, without JavaScript and barriers`, ...lines];
}
