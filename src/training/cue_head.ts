/**
 * The head that asks cues (`cues.ts`): one matrix per question on the vision tower's output, trained
 * beside the model with cross-entropy. It lies in checkpoints of a run and is never exported.
 */
import type { Backend, Matrix } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { cueKinds, cueNames, cueWeights } from "./cues.ts";
import type { BatchTensors } from "./packed_forward.ts";
import { Parameter } from "./parameter_set.ts";
import type { Tape } from "./tape.ts";

export interface CueHeadOptions {
  readonly backend: Backend;
  /** Width of the tower's output. */
  readonly width: number;
  /** Of the cues' loss beside that of the answers. */
  readonly weight: number;
}

export class CueHead {
  /** Start at zero: the first steps teach the head before the tower. */
  readonly parameters: readonly Parameter[];
  readonly #options: CueHeadOptions;
  readonly #matrices: readonly Matrix[];

  constructor(options: CueHeadOptions) {
    const { backend, width } = options;
    this.#options = options;
    this.#matrices = cueNames.map((kind) =>
      backend.createMatrix({ format: "f32", rows: cueKinds[kind], columns: width })
    );
    this.parameters = this.#matrices.map((matrix, i) =>
      new Parameter({ name: `cues.${cueNames[i]}`, places: [] }, { kind: "matrix", matrix })
    );
  }

  /**
   * Adds the loss of a batch to its program. `features` [T * N, width]; `answers` u8 [kinds, N] of
   * each tile; `share` of the step's loss that the batch's cues are. Returns how to read the batch's
   * mean loss.
   */
  record(
    tape: Tape,
    { features, answers, share, tensors }: {
      features: Tensor;
      answers: readonly Uint8Array[];
      share: number;
      tensors: BatchTensors;
    },
  ): () => Promise<number> {
    const { backend, weight } = this.#options;
    const { training, parameters } = tape;
    const rows = features.shape[0]!;
    const input = tape.read(features);
    const asked = this.#matrices.map((matrix, kind) => {
      const wanted = answersOf(answers, kind);
      const weights = cueWeights(wanted).map((value) => value / cueNames.length);
      const empty = new Float32Array(rows);
      return {
        matrix,
        weights,
        target: tensors.i32(Int32Array.from(wanted)),
        coefficient: tensors.f32(weights.map((value) => -value * weight * share)),
        logprob: tensors.f32(empty),
        entropy: tensors.f32(empty),
      };
    });
    tape.record({
      outs: [],
      saves: [input],
      isLoss: true,
      forward() {},
      backward() {
        for (const { matrix, weights: _, ...views } of asked) {
          const inputGrad = tape.target(input);
          const weightGrad = parameters.matrixTarget(matrix);
          training.headGrad({
            input: tape.data(input),
            weight: matrix,
            ...views,
            ...(inputGrad && { inputGrad }),
            ...(weightGrad && { weightGrad }),
          });
        }
      },
    });
    return async () => {
      let loss = 0;
      for (const { logprob, weights } of asked) {
        const values = await backend.read(logprob) as Float32Array;
        values.forEach((value, row) => loss -= value * weights[row]!);
      }
      return loss;
    };
  }
}

/** One kind's answers for the patches of all tiles. */
function answersOf(answers: readonly Uint8Array[], kind: number): Uint8Array {
  return Uint8Array.from(answers.flatMap((tile) => {
    const patches = tile.length / cueNames.length;
    return [...tile.subarray(kind * patches, (kind + 1) * patches)];
  }));
}
