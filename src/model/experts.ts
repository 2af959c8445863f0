/**
 * The port through which a sparse layer reaches its experts, and the local implementation. A
 * cluster hands in another one; the model does not know.
 */
import type { Tensor } from "@/tensor/tensor.ts";
import type { MoeParameters } from "./parameters.ts";
import type { Program } from "./program.ts";

/** Result of the gate for R rows with k choices each. */
export interface Routing {
  /** i32 [R, k] */
  readonly expertIndex: Tensor;
  /** f32 [R, k] */
  readonly expertWeight: Tensor;
}

export interface ExpertExecutor {
  /** out[r] = sum over choices of weight * expert(hidden[r]). hidden, out [R, H]. */
  run(
    program: Program,
    call: { layer: number; hidden: Tensor; routing: Routing; out: Tensor },
  ): Promise<void>;
  /** Carves the scratch memory that `run` carves, and does nothing; absent: `run` only records. */
  reserve?(
    program: Program,
    call: { layer: number; hidden: Tensor; routing: Routing; out: Tensor },
  ): void;
}

/** All experts on this backend: counting sort by expert, grouped matmuls, weighted combine. */
export class LocalExperts implements ExpertExecutor {
  readonly #layers: ReadonlyMap<number, MoeParameters>;

  constructor(layers: ReadonlyMap<number, MoeParameters>) {
    this.#layers = layers;
  }

  run(
    program: Program,
    call: { layer: number; hidden: Tensor; routing: Routing; out: Tensor },
  ): Promise<void> {
    const { ops, workspace } = program;
    const moe = this.#layers.get(call.layer)!;
    const { expertIndex, expertWeight } = call.routing;
    const [rows, choices] = expertIndex.shape as [number, number];
    const pairs = rows * choices;
    const { experts, rows: width } = moe.expertGate;
    const expertStart = workspace.tensor("i32", [experts + 1]);
    const groupedPair = workspace.tensor("i32", [pairs]);
    const pairPlace = workspace.tensor("i32", [pairs]);
    ops.groupByExpert({ expertIndex, experts, expertStart, groupedPair, pairPlace });
    const gate = workspace.tensor("f32", [pairs, width]);
    const up = workspace.tensor("f32", [pairs, width]);
    const grouping = { expertStart, groupedPair };
    const input = call.hidden;
    ops.expertMatmul({ input, weight: moe.expertGate, ...grouping, choices, out: gate });
    ops.expertMatmul({ input, weight: moe.expertUp, ...grouping, choices, out: up });
    ops.swiglu({ gate, up, out: gate });
    const down = workspace.tensor("f32", [pairs, moe.expertDown.rows]);
    ops.expertMatmul({ input: gate, weight: moe.expertDown, ...grouping, out: down });
    ops.combineRows({ input: down, pairPlace, expertWeight, out: call.out });
    return Promise.resolve();
  }
}
