/**
 * The experts of a model whose weights live on other nodes: `ExpertExecutor` over `LayerCall`s. It
 * reads the hidden rows, asks the owners, and adds the results with the same operation in the same
 * order as `LocalExperts`, so tokens are the same bit for bit. Who owns what is front.ts.
 */
import type { Backend } from "@/kernels/backend.ts";
import type { ExpertExecutor, Routing } from "@/model/experts.ts";
import type { Program } from "@/model/program.ts";
import { sliceRows, type Tensor } from "@/tensor/tensor.ts";
import { type CallSite, type HostRouting, RunningLayerCall } from "./running_call.ts";

export class RemoteExperts implements ExpertExecutor {
  readonly #backend: Backend;
  readonly #site: CallSite;
  #step = 0;

  constructor(backend: Backend, site: CallSite) {
    this.#backend = backend;
    this.#site = site;
  }

  reserve(program: Program, call: { hidden: Tensor; routing: Routing }): void {
    this.#operands(program, call);
  }

  #operands({ workspace }: Program, call: { hidden: Tensor; routing: Routing }) {
    const [rows, choices] = call.routing.expertIndex.shape as [number, number];
    const width = call.hidden.shape[1]!;
    return {
      results: workspace.tensor("f32", [rows * choices, width]),
      pairPlace: workspace.tensor("i32", [rows * choices]),
    };
  }

  async run(
    program: Program,
    call: { layer: number; hidden: Tensor; routing: Routing; out: Tensor },
  ): Promise<void> {
    const { layer, hidden, out } = call;
    const { expertIndex, expertWeight } = call.routing;
    const [rows, choices] = expertIndex.shape as [number, number];
    if (rows === 0) return;
    const width = hidden.shape[1]!;
    const routing: HostRouting = {
      layer,
      step: this.#step = (this.#step + 1) >>> 0,
      width,
      choices,
      hidden: await this.#backend.read(hidden) as Float32Array,
      expertIndex: await this.#backend.read(expertIndex) as Int32Array,
    };
    this.#site.routed(layer, routing.expertIndex, choices);
    const places = placesByExpert(routing.expertIndex);
    const { results: input, pairPlace } = this.#operands(program, call);
    this.#backend.write(pairPlace, places);
    await new RunningLayerCall(this.#site, routing).run((pair, result) => {
      this.#backend.write(sliceRows(input, places[pair]!, 1), result);
    });
    program.ops.combineRows({ input, pairPlace, expertWeight, out });
  }
}

/** Place of each pair when pairs are grouped by expert, as `groupByExpert` numbers them. */
function placesByExpert(expertIndex: Int32Array): Int32Array {
  const next: number[] = [];
  for (const expert of expertIndex) next[expert + 1] = (next[expert + 1] ?? 0) + 1;
  // Counts become first places.
  for (let expert = 0, sum = 0; expert < next.length; expert++) {
    sum += next[expert] ?? 0;
    next[expert] = sum;
  }
  return expertIndex.map((expert) => next[expert]!++);
}
