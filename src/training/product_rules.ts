/** Gradient rules of matrix products: with a weight, with a low-rank addition, with the head. */
import { assert } from "@/assert.ts";
import type { Ops } from "@/kernels/ops.ts";
import { reshape, rowsOf } from "@/tensor/tensor.ts";
import type { LowRank } from "./parameter_set.ts";
import type { Tape } from "./tape.ts";
import type { Operand } from "./tape_value.ts";

export function productRules(tape: Tape): Pick<Ops, "matmul"> {
  return {
    matmul(args) {
      const { out } = args;
      const x = tape.read(args.input);
      if (args.weight !== tape.head || tape.isWritten(out)) return record(tape, x, args);
      tape.defer(out, { input: x, weight: args.weight, run: () => record(tape, x, args) });
    },
  };
}

function record(
  tape: Tape,
  x: Operand,
  { weight, bias, out }: Parameters<Ops["matmul"]>[0],
): void {
  const { training, parameters, backend: { ops } } = tape;
  const addition = parameters.lowRankOf(weight);
  const learns = parameters.isTrainable(weight) || addition !== undefined ||
    (bias !== undefined && parameters.isTrainable(bias));
  const y = tape.write(out, tape.isTracked(x) || learns);
  const low = addition && lowRankRule(tape, addition, { x, y });
  const readsInput = parameters.isTrainable(weight) || low !== undefined;
  tape.record({
    outs: low ? [y, low.inner] : [y],
    saves: [...readsInput ? [x] : [], ...low ? [low.inner] : []],
    forward() {
      ops.matmul({ input: tape.data(x), weight, out: tape.data(y), ...(bias && { bias }) });
      low?.forward();
    },
    backward() {
      const outGrad = tape.gradient(y);
      const biasGrad = bias && parameters.tensorTarget(bias);
      if (biasGrad) {
        const { tensor, accumulate } = biasGrad;
        training.columnSums({ input: outGrad, accumulate, out: tensor });
      }
      const weightGrad = parameters.matrixTarget(weight);
      if (weightGrad) {
        const { matrix, accumulate } = weightGrad;
        const operands = { input: tape.data(x), outGrad, scale: 1 };
        training.matmulWeightGrad({ ...operands, accumulate, weightGrad: matrix });
      }
      low?.backward();
      const target = tape.target(x);
      if (!target) return;
      const { accumulate } = target;
      const inputGrad = reshape(target.tensor, [rowsOf(outGrad), weight.columns]);
      training.matmulInputGrad({ outGrad, weight, scale: 1, accumulate, inputGrad });
    },
  });
}

/** y += scale * (x * down^T) * up^T. */
function lowRankRule(
  tape: Tape,
  { down, up, scale }: LowRank,
  { x, y }: { x: Operand; y: Operand },
) {
  const { training, parameters, backend: { ops } } = tape;
  const rows = rowsOf(y.tensor);
  const inner = tape.hidden("f32", [rows, down.rows]);
  return {
    inner,
    forward() {
      ops.matmul({ input: tape.data(x), weight: down, out: tape.data(inner) });
      training.matmulAdd({ input: tape.data(inner), weight: up, scale, out: tape.data(y) });
    },
    backward() {
      const outGrad = tape.gradient(y);
      const upGrad = parameters.matrixTarget(up);
      const downGrad = parameters.matrixTarget(down);
      assert(upGrad && downGrad, "a low-rank addition that does not learn");
      training.matmulWeightGrad({
        input: tape.data(inner),
        outGrad,
        scale,
        accumulate: upGrad.accumulate,
        weightGrad: upGrad.matrix,
      });
      tape.scratch([rows, down.rows], (innerGrad) => {
        const accumulate = false;
        training.matmulInputGrad({ outGrad, weight: up, scale, accumulate, inputGrad: innerGrad });
        training.matmulWeightGrad({
          input: tape.data(x),
          outGrad: innerGrad,
          scale: 1,
          accumulate: downGrad.accumulate,
          weightGrad: downGrad.matrix,
        });
        const target = tape.target(x);
        if (!target) return;
        const inputGrad = reshape(target.tensor, [rows, down.columns]);
        const through = { outGrad: innerGrad, weight: down, scale: 1 };
        training.matmulInputGrad({ ...through, accumulate: target.accumulate, inputGrad });
      });
    },
  };
}
