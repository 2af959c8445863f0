/**
 * The gradient rule of every op that the model is written in. A rule records the op's computation
 * and how gradients of its outputs become gradients of its inputs and weights.
 *
 * Attention over pages becomes attention over packed rows: in training a sequence's rows are
 * consecutive and all there, so what `writeKv` was given is what `attention` reads.
 */
import { assert } from "@/assert.ts";
import type { Ops } from "@/kernels/ops.ts";
import type { AttentionRange } from "@/kernels/training_ops.ts";
import { elementCount } from "@/tensor/dtype.ts";
import { rowsOf, type Tensor, widthOf } from "@/tensor/tensor.ts";
import { type GreedyOutput, recordGreedy } from "./greedy_tokens.ts";
import { productRules } from "./product_rules.ts";
import type { Tape } from "./tape.ts";
import type { Operand } from "./tape_value.ts";
import { routingRules } from "./routing_rules.ts";

/** The model's ops on a tape. */
export function tapeRules(tape: Tape): Ops {
  return {
    ...productRules(tape),
    ...normRules(tape),
    ...elementwiseRules(tape),
    ...rowRules(tape),
    ...attentionRules(tape),
    ...routingRules(tape),
    sample: () => assert(false, "sampling has no gradient"),
  };
}

function normRules(tape: Tape): Pick<Ops, "rmsNorm" | "layerNorm"> {
  const { parameters, training, backend: { ops } } = tape;
  return {
    rmsNorm({ input, weight, epsilon, out }) {
      const x = tape.read(input);
      const y = tape.write(out, tape.isTracked(x) || parameters.isTrainable(weight));
      tape.record({
        outs: [y],
        saves: [x],
        forward: () => ops.rmsNorm({ input: tape.data(x), weight, epsilon, out: tape.data(y) }),
        backward() {
          const inputGrad = tape.target(x);
          const weightGrad = parameters.tensorTarget(weight);
          training.rmsNormGrad({
            input: tape.data(x),
            weight,
            epsilon,
            outGrad: tape.gradient(y),
            ...(inputGrad && { inputGrad }),
            ...(weightGrad && { weightGrad }),
          });
        },
      });
    },
    layerNorm({ input, weight, bias, epsilon, out }) {
      const x = tape.read(input);
      const learns = parameters.isTrainable(weight) || parameters.isTrainable(bias);
      const y = tape.write(out, tape.isTracked(x) || learns);
      tape.record({
        outs: [y],
        saves: [x],
        forward: () =>
          ops.layerNorm({ input: tape.data(x), weight, bias, epsilon, out: tape.data(y) }),
        backward() {
          const inputGrad = tape.target(x);
          const weightGrad = parameters.tensorTarget(weight);
          const biasGrad = parameters.tensorTarget(bias);
          training.layerNormGrad({
            input: tape.data(x),
            weight,
            epsilon,
            outGrad: tape.gradient(y),
            ...(inputGrad && { inputGrad }),
            ...(weightGrad && { weightGrad }),
            ...(biasGrad && { biasGrad }),
          });
        },
      });
    },
  };
}

function elementwiseRules(tape: Tape): Pick<Ops, "swiglu" | "gelu" | "add"> {
  const { training, parameters, backend: { ops } } = tape;
  return {
    swiglu({ gate, up, out }) {
      const [g, u] = [tape.read(gate), tape.read(up)];
      const y = tape.write(out, tape.isTracked(g) || tape.isTracked(u));
      tape.record({
        outs: [y],
        saves: [g, u],
        forward: () => ops.swiglu({ gate: tape.data(g), up: tape.data(u), out: tape.data(y) }),
        backward() {
          const [gateGrad, upGrad] = [tape.whole(g), tape.whole(u)];
          training.swigluGrad({
            gate: tape.data(g),
            up: tape.data(u),
            outGrad: tape.gradient(y),
            gateGrad: gateGrad.tensor,
            upGrad: upGrad.tensor,
          });
          gateGrad.done();
          upGrad.done();
        },
      });
    },
    gelu({ input, out }) {
      const x = tape.read(input);
      const y = tape.write(out, tape.isTracked(x));
      tape.record({
        outs: [y],
        saves: [x],
        forward: () => ops.gelu({ input: tape.data(x), out: tape.data(y) }),
        backward() {
          const { tensor: inputGrad, accumulate } = tape.target(x)!;
          const outGrad = tape.gradient(y);
          training.geluGrad({ input: tape.data(x), outGrad, accumulate, inputGrad });
        },
      });
    },
    add({ left, right, out }) {
      const [l, r] = [tape.read(left), tape.read(right)];
      const learns = parameters.isTrainable(right);
      const y = tape.write(out, tape.isTracked(l) || tape.isTracked(r) || learns);
      const repeats = elementCount(right.shape) !== elementCount(left.shape);
      assert(!repeats || !tape.isTracked(r), "only a parameter repeats in a tracked sum");
      tape.record({
        outs: [y],
        forward: () => ops.add({ left: tape.data(l), right: tape.data(r), out: tape.data(y) }),
        backward() {
          const target = parameters.tensorTarget(right);
          if (target) {
            const width = elementCount(right.shape);
            const input = { ...tape.gradient(y), shape: [elementCount(left.shape) / width, width] };
            training.columnSums({ input, accumulate: target.accumulate, out: target.tensor });
          }
          // Last, since the sum's gradient becomes that of its terms.
          tape.pass(y, r);
          tape.pass(y, l);
        },
      });
    },
  };
}

function rowRules(tape: Tape): Pick<Ops, "gatherRows" | "copyRows" | "rope" | "patchify"> {
  const { training, parameters, backend: { ops } } = tape;
  return {
    gatherRows({ table, rowIndex, out }) {
      const y = tape.write(out, parameters.isTrainable(table));
      tape.record({
        outs: [y],
        forward: () => ops.gatherRows({ table, rowIndex, out: tape.data(y) }),
        backward() {
          const { matrix: tableGrad, accumulate } = parameters.matrixTarget(table)!;
          if (!accumulate) training.fill({ out: tableGrad, value: 0 });
          training.gatherRowsGrad({ outGrad: tape.gradient(y), rowIndex, tableGrad });
        },
      });
    },
    copyRows: (args) => copyRowsRule(tape, args),
    rope({ input, position, table, headWidth, out }) {
      const x = tape.read(input);
      const y = tape.write(out, tape.isTracked(x));
      tape.record({
        outs: [y],
        forward: () =>
          ops.rope({ input: tape.data(x), position, table, headWidth, out: tape.data(y) }),
        backward() {
          const { tensor: inputGrad, accumulate } = tape.target(x)!;
          const outGrad = tape.gradient(y);
          training.ropeGrad({ outGrad, position, table, headWidth, accumulate, inputGrad });
        },
      });
    },
    patchify({ out, ...args }) {
      const y = tape.write(out, false);
      tape.record({ outs: [y], forward: () => ops.patchify({ ...args, out: tape.data(y) }) });
    },
  };
}

/** Rows that the copy does not write keep their value, if the place had one. */
function copyRowsRule(tape: Tape, args: Parameters<Ops["copyRows"]>[0]): void {
  const { training, backend: { ops } } = tape;
  const { sourceRow, outRow, width, rowCount, out } = args;
  const source = tape.read(args.source);
  const before = tape.isWritten(out) ? tape.read(out) : undefined;
  const tracked = tape.isTracked(source) || (before !== undefined && tape.isTracked(before));
  const y = tape.write(out, tracked);
  const rows = { ...(sourceRow && { sourceRow }), ...(outRow && { outRow }), width, rowCount };
  tape.record({
    outs: [y],
    forward() {
      if (before) {
        const whole = { width: widthOf(out), rowCount: rowsOf(out) };
        ops.copyRows({ source: tape.data(before), out: tape.data(y), ...whole });
      }
      ops.copyRows({ source: tape.data(source), out: tape.data(y), ...rows });
    },
    backward() {
      const outGrad = tape.gradient(y);
      const target = tape.target(source);
      if (target) {
        // Rows may be left out.
        const at = { out: target.tensor, width, rowCount: elementCount(args.source.shape) / width };
        if (!target.accumulate) training.zeroRows(at);
        training.copyRowsGrad({ outGrad, sourceGrad: target.tensor, ...rows });
      }
      if (!before || !tape.isTracked(before)) return;
      training.zeroRows({ out: outGrad, ...(outRow && { row: outRow }), width, rowCount });
      tape.pass(y, before);
    },
  });
}

function attentionRules(
  tape: Tape,
): Pick<Ops, "writeKv" | "attention" | "segmentAttention"> {
  const written = new Map<number, { readonly key: Operand; readonly value: Operand }>();
  return {
    writeKv({ layer, key, value }) {
      written.set(layer, { key: tape.read(key), value: tape.read(value) });
    },
    attention({ query, cache, layer, rowLength, heads, scale, out }) {
      const kv = written.get(layer);
      assert(kv, `attention of layer ${layer} without keys`);
      const operands = { query: tape.read(query), ...kv, out };
      packedAttentionRule(tape, operands, { rowLength, heads, kvHeads: cache.kvHeads, scale });
    },
    segmentAttention({ query, key, value, segmentRows, heads, scale, out }) {
      const operands = {
        query: tape.read(query),
        key: tape.read(key),
        value: tape.read(value),
        out,
      };
      packedAttentionRule(tape, operands, { segmentRows, heads, kvHeads: heads, scale });
    },
  };
}

function packedAttentionRule(
  tape: Tape,
  operands: { query: Operand; key: Operand; value: Operand; out: Tensor },
  options: AttentionRange & { heads: number; kvHeads: number; scale: number },
): void {
  const { training } = tape;
  const { query, key, value, out } = operands;
  const inputs = [query, key, value];
  const y = tape.write(out, inputs.some((input) => tape.isTracked(input)));
  const logSum = tape.hidden("f32", [rowsOf(query.tensor), options.heads]);
  const views = () => ({
    query: tape.data(query),
    key: tape.data(key),
    value: tape.data(value),
    out: tape.data(y),
    logSum: tape.data(logSum),
    ...options,
  });
  tape.record({
    outs: [y, logSum],
    saves: [...inputs, y, logSum],
    forward: () => training.packedAttention(views()),
    backward() {
      const [queryGrad, keyGrad, valueGrad] = inputs.map((input) => tape.whole(input));
      training.packedAttentionGrad({
        ...views(),
        outGrad: tape.gradient(y),
        queryGrad: queryGrad!.tensor,
        keyGrad: keyGrad!.tensor,
        valueGrad: valueGrad!.tensor,
      });
      for (const gradient of [queryGrad, keyGrad, valueGrad]) gradient!.done();
    },
  });
}

/** Log probabilities of chosen tokens, with the gradient of their weighted sum. */
export interface TokenScores {
  /** [K, V] as the model returned them; nothing else may have read them. */
  readonly logits: Tensor;
  /** i32 [K] */
  readonly target: Tensor;
  /** f32 [K]: d loss / d logprob. May be written until `backward` is recorded. */
  readonly coefficient: Tensor;
  /** Out: f32 [K]. */
  readonly logprob: Tensor;
  readonly entropy: Tensor;
}

/**
 * Ends a program in a loss. The logits are never held whole. With `early` the scores are computed
 * at once (reinforcement learning chooses its coefficients by them), else with the gradient.
 * `greedy` also gets the most likely token of each row.
 */
export function scoreTokens(
  tape: Tape,
  scores: TokenScores,
  { early = false, greedy }: { early?: boolean; greedy?: GreedyOutput } = {},
): void {
  const { training, parameters } = tape;
  const { logits, ...views } = scores;
  const { input, weight } = tape.takeDeferred(logits);
  tape.record({
    outs: [],
    saves: [input],
    isLoss: true,
    forward() {
      if (early) training.headLogprobs({ input: tape.data(input), weight, ...views });
      if (greedy) recordGreedy(tape, { input: tape.data(input), weight, ...greedy });
    },
    backward() {
      const inputGrad = tape.target(input);
      const weightGrad = parameters.matrixTarget(weight);
      training.headGrad({
        input: tape.data(input),
        weight,
        ...views,
        ...(inputGrad && { inputGrad }),
        ...(weightGrad && { weightGrad }),
      });
    },
  });
}
