/**
 * Parts of a model that the processor computes for a GPU: what they read comes over, the same ops
 * run on the processor's backend, and the result goes back. In Deno each crossing costs a readback
 * of some 11 ms, whatever its size.
 */
import type { Backend } from "@/kernels/backend.ts";
import { elementCount } from "@/tensor/dtype.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { ExpertExecutor } from "./experts.ts";
import type { HostParts } from "./host_parts.ts";
import { gatedMlp } from "./mlp.ts";
import type { GatedMlp } from "./parameters.ts";
import { measuringOps, type Program } from "./program.ts";
import { ArenaWorkspace } from "./workspace.ts";

/** The processor's backend and what it computes. */
export interface HostPlacement {
  readonly backend: Backend;
  readonly parts: HostParts;
}

/** Records ops on copies of the inputs and names the result. */
type Recording = (program: Program, inputs: readonly Tensor[]) => Tensor | Promise<Tensor>;
type ExpertCall = Parameters<ExpertExecutor["run"]>[1];

export class HostLayers {
  readonly parts: HostParts;
  readonly backend: Backend;
  readonly #device: Backend;
  #arena: Tensor | undefined;

  constructor(device: Backend, { backend, parts }: HostPlacement) {
    this.#device = device;
    this.backend = backend;
    this.parts = parts;
  }

  /** Computes `record` on the processor from the device's `inputs`, and writes `out` there. */
  async run(
    { inputs, out }: { inputs: readonly Tensor[]; out: Tensor },
    record: Recording,
  ): Promise<void> {
    if (elementCount(out.shape) === 0) return;
    const device = this.#device;
    // Together: one round trip.
    const values = await Promise.all(inputs.map((tensor) => device.read(tensor)));
    const program = await this.#program(inputs, record);
    const copies = inputs.map(({ dtype, shape }) => program.workspace.tensor(dtype, shape));
    copies.forEach((copy, i) => this.backend.write(copy, values[i]!));
    device.write(out, await this.backend.read(await record(program, copies)));
  }

  /** Frees the scratch memory. */
  close(): void {
    if (this.#arena) this.backend.free(this.#arena);
    this.#arena = undefined;
  }

  /** With scratch memory for the recording, which only ever grows. */
  async #program(inputs: readonly Tensor[], record: Recording): Promise<Program> {
    const measured = new ArenaWorkspace(undefined);
    const shapes = inputs.map(({ dtype, shape }) => measured.tensor(dtype, shape));
    await record({ ops: measuringOps, workspace: measured, tap: undefined }, shapes);
    const sizeBytes = measured.peakBytes;
    if (this.#arena === undefined || elementCount(this.#arena.shape) < sizeBytes) {
      this.close();
      this.#arena = this.backend.allocate("u8", [sizeBytes]);
    }
    return { ops: this.backend.ops, workspace: new ArenaWorkspace(this.#arena), tap: undefined };
  }

  /** input [R, H] on the device -> new tensor [R, H] there. */
  async feedForward(program: Program, input: Tensor, mlp: GatedMlp): Promise<Tensor> {
    const out = program.workspace.tensor("f32", input.shape);
    await this.run({ inputs: [input], out }, (host, [copy]) => gatedMlp(host, copy!, mlp));
    return out;
  }
}

/** Experts of some layers on the processor, of the others where `near` computes them. */
export class PlacedExperts implements ExpertExecutor {
  readonly #host: HostLayers;
  readonly #near: ExpertExecutor;

  /** `near` records whatever layer's experts into the program that it is given. */
  constructor(host: HostLayers, near: ExpertExecutor) {
    this.#host = host;
    this.#near = near;
  }

  async run(program: Program, call: ExpertCall): Promise<void> {
    const { layer, hidden, routing, out } = call;
    if (!this.#host.parts.expertLayers.has(layer)) return await this.#near.run(program, call);
    const inputs = [hidden, routing.expertIndex, routing.expertWeight];
    await this.#host.run({ inputs, out }, async (host, copies) => {
      const [hidden, expertIndex, expertWeight] = copies as [Tensor, Tensor, Tensor];
      const result = host.workspace.tensor("f32", hidden.shape);
      const routing = { expertIndex, expertWeight };
      await this.#near.run(host, { layer, hidden, routing, out: result });
      return result;
    });
  }

  /** Scratch memory of the device as if all experts were there. */
  reserve(program: Program, call: ExpertCall): void {
    void this.#near.run(program, call);
  }
}
