/**
 * The head that asks cues (`cues.ts`): one matrix per question on the vision tower's output, or on the
 * visual tokens that the adapter makes of it, trained beside the model with cross-entropy. It lies in
 * checkpoints of a run and is never exported.
 */
import type { Backend, Matrix } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import {
  cueKinds,
  type CueLosses,
  cueNames,
  type CuePlace,
  cueRecord,
  cueWeights,
} from "./cues.ts";
import type { BatchTensors } from "./packed_forward.ts";
import { Parameter } from "./parameter_set.ts";
import type { Tape } from "./tape.ts";

/** One matrix: a kind of cue, of the patch itself or of one of those behind a token. */
interface CueQuestion {
  readonly name: string;
  readonly kind: number;
  readonly part: number;
  readonly matrix: Matrix;
}

export interface CueHeadOptions {
  readonly backend: Backend;
  /** Width of the rows that are asked. */
  readonly width: number;
  /** Of the cues' loss beside that of the answers. */
  readonly weight: number;
  /**
   * i32 [tokens * perToken] of one tile, from `mergeOrder`: the patches behind each visual token,
   * which is asked about each of them. Missing: patches are asked themselves.
   */
  readonly merge?: { readonly order: Int32Array; readonly perToken: number };
}

export class CueHead {
  /** Start at zero: the first steps teach the head before what it stands on. */
  readonly parameters: readonly Parameter[];
  readonly place: CuePlace;
  readonly #options: CueHeadOptions;
  readonly #questions: readonly CueQuestion[];

  constructor(options: CueHeadOptions) {
    const { backend, width, merge } = options;
    this.#options = options;
    this.place = merge ? "tokens" : "patches";
    this.#questions = cueNames.flatMap((name, kind) =>
      Array.from({ length: merge?.perToken ?? 1 }, (_, part): CueQuestion => ({
        name: merge ? `cues.tokens.${name}.${part}` : `cues.${name}`,
        kind,
        part,
        matrix: backend.createMatrix({ format: "f32", rows: cueKinds[name], columns: width }),
      }))
    );
    this.parameters = this.#questions.map(({ name, matrix }) =>
      new Parameter({ name, places: [] }, { kind: "matrix", matrix })
    );
  }

  /**
   * Adds the loss of a batch to its program. `features` [T * rows, width]; `answers` u8 [kinds, N] of
   * each tile's patches; `share` of the step's loss that the batch's cues are. Returns how to read the batch's
   * losses; what is learnt from is their mean.
   */
  record(
    tape: Tape,
    { features, answers, share, tensors }: {
      features: Tensor;
      answers: readonly Uint8Array[];
      share: number;
      tensors: BatchTensors;
    },
  ): () => Promise<CueLosses> {
    const { backend, weight, merge } = this.#options;
    const { training, parameters } = tape;
    const rows = features.shape[0]!;
    const input = tape.read(features);
    const asked = this.#questions.map(({ matrix, kind, part }) => {
      const wanted = answersOf(answers, { kind, part, merge });
      const weights = cueWeights(wanted).map((value) => value / this.#questions.length);
      const empty = new Float32Array(rows);
      return {
        kind,
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
        for (const { matrix, kind: _, weights: __, ...views } of asked) {
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
      const losses = new Float64Array(cueNames.length);
      for (const { kind, logprob, weights } of asked) {
        const values = await backend.read(logprob) as Float32Array;
        values.forEach((value, row) => losses[kind]! -= value * weights[row]!);
      }
      // The weights are of the mean over all kinds.
      return cueRecord((_, kind) => losses[kind]! * cueNames.length);
    };
  }
}

/** One kind's answers for the patches of all tiles, or for the same part of all visual tokens. */
export function answersOf(
  answers: readonly Uint8Array[],
  { kind, part, merge }: {
    kind: number;
    part: number;
    merge: CueHeadOptions["merge"] | undefined;
  },
): Uint8Array {
  return Uint8Array.from(answers.flatMap((tile) => {
    const patches = tile.length / cueNames.length;
    const own = tile.subarray(kind * patches, (kind + 1) * patches);
    if (!merge) return [...own];
    const { order, perToken } = merge;
    return Array.from(
      { length: order.length / perToken },
      (_, token) => own[order[token * perToken + part]!]!,
    );
  }));
}
