/** Gradient rules of the expert dispatch: through chosen probabilities, none through the choice. */
import { assert } from "@/assert.ts";
import type { Ops } from "@/kernels/ops.ts";
import { elementCount } from "@/tensor/dtype.ts";
import { rowsOf } from "@/tensor/tensor.ts";
import type { Tape } from "./tape.ts";
import type { Operand, TapeValue } from "./tape_value.ts";

export function routingRules(
  tape: Tape,
): Pick<Ops, "gateTopK" | "groupByExpert" | "expertMatmul" | "combineRows"> {
  /** The inverse of each grouping, by the grouping. */
  const inverses = new Map<TapeValue, Operand>();
  return {
    gateTopK: (args) => gateRule(tape, args),
    groupByExpert({ expertIndex, experts, expertStart, groupedPair, pairPlace }) {
      const index = tape.read(expertIndex);
      const [start, pair, place] = [expertStart, groupedPair, pairPlace]
        .map((out) => tape.write(out, false)) as [Written, Written, Written];
      inverses.set(pair.value, place);
      tape.record({
        outs: [start, pair, place],
        forward: () =>
          tape.backend.ops.groupByExpert({
            expertIndex: tape.data(index),
            experts,
            expertStart: tape.data(start),
            groupedPair: tape.data(pair),
            pairPlace: tape.data(place),
          }),
      });
    },
    expertMatmul(args) {
      const pair = tape.read(args.groupedPair);
      const place = pair.value && inverses.get(pair.value);
      assert(place, "expertMatmul on rows that were not grouped");
      expertRule(tape, { pair, place }, args);
    },
    combineRows: (args) => combineRule(tape, args),
  };
}

type Written = Operand & { readonly value: TapeValue };

function gateRule(tape: Tape, args: Parameters<Ops["gateTopK"]>[0]): void {
  const { training, backend: { ops } } = tape;
  const { k, normalize } = args;
  const logits = tape.read(args.logits);
  const index = tape.write(args.expertIndex, false);
  const weight = tape.write(args.expertWeight, tape.isTracked(logits));
  tape.gates.push({ logits, expertIndex: index });
  // The losses of the gates come after the last layer, when this one's memory is given back.
  for (const { value } of [logits, index]) if (value) value.isKept = true;
  const views = () => ({
    logits: tape.data(logits),
    normalize,
    expertIndex: tape.data(index),
    expertWeight: tape.data(weight),
  });
  tape.record({
    outs: [index, weight],
    saves: [logits, index, weight],
    forward: () => ops.gateTopK({ ...views(), k }),
    backward() {
      const { tensor: logitsGrad, accumulate } = tape.target(logits)!;
      const weightGrad = tape.gradient(weight);
      training.gateTopKGrad({ ...views(), weightGrad, accumulate, logitsGrad });
    },
  });
}

function expertRule(
  tape: Tape,
  { pair, place }: { pair: Operand; place: Operand },
  args: Parameters<Ops["expertMatmul"]>[0],
): void {
  const { training, parameters, backend: { ops } } = tape;
  const { weight, choices } = args;
  const x = tape.read(args.input);
  const start = tape.read(args.expertStart);
  const y = tape.write(args.out, tape.isTracked(x) || parameters.isTrainable(weight));
  const grouping = () => ({ expertStart: tape.data(start), groupedPair: tape.data(pair) });
  const fanOut = choices === undefined ? {} : { choices };
  tape.record({
    outs: [y],
    saves: [...parameters.isTrainable(weight) ? [x] : [], start, pair, place],
    forward: () =>
      ops.expertMatmul({
        input: tape.data(x),
        weight,
        ...grouping(),
        ...fanOut,
        out: tape.data(y),
      }),
    backward() {
      const outGrad = tape.gradient(y);
      const target = parameters.matrixTarget(weight);
      if (target) {
        const { matrix: weightGrad, accumulate } = target;
        const operands = { input: tape.data(x), outGrad, ...grouping(), ...fanOut };
        training.expertWeightGrad({ ...operands, accumulate, weightGrad });
      }
      if (!tape.isTracked(x)) return;
      const expertStart = tape.data(start);
      const pairs = elementCount(pair.tensor.shape);
      tape.scratch([pairs, weight.columns], (inputGrad) => {
        training.expertInputGrad({ outGrad, weight, expertStart, inputGrad });
        const { tensor: out, accumulate } = tape.target(x)!;
        if (choices === undefined && !accumulate) {
          const whole = { width: weight.columns, rowCount: pairs };
          ops.copyRows({ source: inputGrad, out, ...whole });
        } else if (choices === undefined) training.accumulate({ input: inputGrad, out });
        else {
          const pairPlace = tape.data(place);
          training.sumPairs({ input: inputGrad, pairPlace, choices, accumulate, out });
        }
      });
    },
  });
}

function combineRule(tape: Tape, args: Parameters<Ops["combineRows"]>[0]): void {
  const { training, backend: { ops } } = tape;
  const [x, place, weight] = [args.input, args.pairPlace, args.expertWeight]
    .map((tensor) => tape.read(tensor)) as [Operand, Operand, Operand];
  const y = tape.write(args.out, tape.isTracked(x) || tape.isTracked(weight));
  const views = () => ({
    input: tape.data(x),
    pairPlace: tape.data(place),
    expertWeight: tape.data(weight),
  });
  assert(rowsOf(args.expertWeight) === rowsOf(args.out), "one row of weights per row");
  tape.record({
    outs: [y],
    saves: [x, place, weight],
    forward: () => ops.combineRows({ ...views(), out: tape.data(y) }),
    backward() {
      const outGrad = tape.gradient(y);
      const [inputGrad, weightGrad] = [tape.whole(x), tape.whole(weight)];
      const grads = { inputGrad: inputGrad.tensor, weightGrad: weightGrad.tensor };
      training.combineRowsGrad({ outGrad, ...views(), ...grads });
      inputGrad.done();
      weightGrad.done();
    },
  });
}
