/** The draw of tokens. */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
import { rowsOf, widthOf } from "@/tensor/tensor.ts";
import type { Ops } from "../ops.ts";
import { expectShape, expectSize, sizeOf } from "../shape.ts";
import type { Machine } from "./machine.ts";
import { rangeOf } from "./ranges.ts";
import * as shaders from "./shaders/sample.ts";

/** Columns of `params`. */
const PARAM_COLUMNS = 8;

export function samplingOps(machine: Machine): Pick<Ops, "sample"> {
  return {
    sample(args) {
      const [rows, vocabulary] = [rowsOf(args.logits), widthOf(args.logits)];
      const candidates = widthOf(args.candidateId);
      checkShapes(args, { rows, candidates });
      const keyBytes = 4 * rows * vocabulary;
      const { block } = machine.scratch("sample", keyBytes + 4 * rows);
      const keys = { block, byteOffset: 0, sizeBytes: keyBytes };
      const logTotal = { block, byteOffset: keyBytes, sizeBytes: 4 * rows };
      const logits = rangeOf(args.logits);
      const params = rangeOf(args.params);
      const workgroups = [rows, 1] as const;
      machine.record(shaders.candidates, {
        tensors: {
          logits,
          logTotal,
          id: rangeOf(args.candidateId, "i32"),
          logprob: rangeOf(args.candidateLogprob),
        },
        numbers: { vocabulary, candidates },
        workgroups,
      });
      machine.record(shaders.adjust, {
        tensors: {
          logits,
          keys,
          params,
          mask: rangeOf(args.mask, "i32"),
          start: rangeOf(args.adjustStart, "i32"),
          token: rangeOf(args.adjustToken, "i32"),
          penalty: rangeOf(args.adjustPenalty),
          addend: rangeOf(args.adjustAdd),
        },
        numbers: { vocabulary, maskWords: Math.ceil(vocabulary / 32) },
        workgroups,
      });
      const drawn = { id: rangeOf(args.id, "i32"), logprob: rangeOf(args.logprob) };
      machine.record(shaders.choose, {
        tensors: { keys, logits, logTotal, params, ...drawn },
        numbers: { vocabulary },
        workgroups,
      });
    },
  };
}

function checkShapes(
  args: Parameters<Ops["sample"]>[0],
  { rows, candidates }: { rows: number; candidates: number },
): void {
  assert(candidates <= limits.candidatesMax, `${candidates} candidates`);
  expectShape("params", args.params, [rows, PARAM_COLUMNS]);
  expectSize("adjustStart", args.adjustStart, rows + 1);
  expectSize("adjustPenalty", args.adjustPenalty, sizeOf(args.adjustToken));
  expectSize("adjustAdd", args.adjustAdd, sizeOf(args.adjustToken));
  expectSize("id", args.id, rows);
  expectSize("logprob", args.logprob, rows);
  expectShape("candidateId", args.candidateId, [rows, candidates]);
  expectShape("candidateLogprob", args.candidateLogprob, [rows, candidates]);
}
