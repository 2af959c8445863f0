/**
 * Several ops of the vocabulary as one dispatch, for the sequences that decoder layers are made of.
 * Each checks whether it can, computes all that the single ops would, and says whether it did.
 */
import { rowsOf, type Tensor, widthOf } from "@/tensor/tensor.ts";
import type { Matrix } from "../backend.ts";
import { isQuantised, panelCount } from "../matrix_layout.ts";
import type { Ops } from "../ops.ts";
import { sizeOf } from "../shape.ts";
import type { Activations } from "./activations.ts";
import { recordPaged, roundsRows } from "./attention_ops.ts";
import type { Machine } from "./machine.ts";
import { cacheLayer, groupsOf, rangeOf, weightNumbers, wholeBlock } from "./ranges.ts";
import { jointNorm, rotateHeads } from "./shaders/joint_norms.ts";
import { jointProduct } from "./shaders/joint_products.ts";
import { headRowElements } from "./shaders/kv_pages.ts";
import { matrixStorage, type Range } from "./storage.ts";
import { PARTIALS_MAX, VECTOR_ROWS_MAX, vectorRows } from "./product_ops.ts";
import type { Tuning } from "./tuning.ts";

type Args<Name extends keyof Ops> = Parameters<Ops[Name]>[0];

/** Norm, rope, norm, rope and storing of one layer. */
export interface HeadArgs {
  readonly query: { readonly norm: Args<"rmsNorm">; readonly rope: Args<"rope"> };
  readonly key: { readonly norm: Args<"rmsNorm">; readonly rope: Args<"rope"> };
  readonly store: Args<"writeKv">;
}

/** The same bytes. */
export function isSameView(a: Tensor, b: Tensor): boolean {
  return a.storage === b.storage && a.byteOffset === b.byteOffset && a.dtype === b.dtype &&
    sizeOf(a) === sizeOf(b);
}

/** No byte in common; elements have four bytes. */
export function areDisjoint(a: Tensor, b: Tensor): boolean {
  return a.storage !== b.storage || a.byteOffset + 4 * sizeOf(a) <= b.byteOffset ||
    b.byteOffset + 4 * sizeOf(b) <= a.byteOffset;
}

export class JointOps {
  readonly #machine: Machine;
  readonly #tuning: Tuning;
  readonly #activations: Activations;
  readonly #sharedAttention: boolean;

  constructor(
    machine: Machine,
    options: { tuning: Tuning; activations: Activations; sharedAttention: boolean },
  ) {
    this.#machine = machine;
    this.#tuning = options.tuning;
    this.#activations = options.activations;
    this.#sharedAttention = options.sharedAttention;
  }

  /** A sum, its norm, and rounding of that for the product that follows, where it wants it. */
  norm(
    args: { add: Args<"add"> | undefined; norm: Args<"rmsNorm">; rounds: boolean },
  ): boolean {
    const { add, norm, rounds } = args;
    const { input, weight, epsilon, out } = norm;
    const [rows, width] = [rowsOf(input), widthOf(input)];
    if (rows === 0 || sizeOf(weight) !== width || sizeOf(out) !== rows * width) return false;
    if (!isSameView(input, out) && !areDisjoint(input, out)) return false;
    if (add && !isPlainSum(add, norm)) return false;
    const tensors: Record<string, Range> = {
      ...(add
        ? { left: rangeOf(add.left), right: rangeOf(add.right), total: rangeOf(input) }
        : { input: rangeOf(input) }),
      weight: rangeOf(weight),
      out: rangeOf(out),
    };
    // One more buffer for the codes.
    if (!this.#machine.fits(Object.values(tensors), rounds ? 1 : 0)) return false;
    const rounded = { range: tensors["out"]!, rows, columns: width };
    this.#machine.record(jointNorm({ adds: add !== undefined, rounds }), {
      tensors: { ...tensors, ...(rounds && this.#activations.place(rounded)) },
      numbers: { rows, width, groups: groupsOf(width), epsilon },
      workgroups: { groups: rows },
    });
    return true;
  }

  /** What happens to queries, keys and values between their products and attention. */
  heads({ query, key, store }: HeadArgs): boolean {
    const { cache, layer, slot, value } = store;
    const [rows, width] = [sizeOf(slot), cache.headWidth];
    const { position, table } = query.rope;
    const heads = rowsOf(query.norm.input) / rows;
    const fitsCache = rows > 0 && sizeOf(key.norm.input) === rows * cache.kvHeads * width &&
      sizeOf(value) === rows * cache.kvHeads * width && isSameView(key.rope.out, store.key);
    if (!fitsCache || query.norm.epsilon !== key.norm.epsilon) return false;
    if (![query, key].every((part) => isHeadRotation(part, { position, table, width }))) {
      return false;
    }
    const parts = [query.norm.input, key.norm.input, value];
    if (!parts.every((a, i) => parts.slice(i + 1).every((b) => areDisjoint(a, b)))) return false;
    const { range, numbers } = cacheLayer(cache, layer);
    const tensors = {
      query: rangeOf(query.norm.input),
      key: rangeOf(key.norm.input),
      value: rangeOf(value),
      queryNorm: rangeOf(query.norm.weight),
      keyNorm: rangeOf(key.norm.weight),
      position: rangeOf(position, "i32"),
      table: rangeOf(table),
      slot: rangeOf(slot, "i32"),
      cache: range,
    };
    if (!this.#machine.fits(Object.values(tensors))) return false;
    const { epsilon } = query.norm;
    const perWord = headRowElements(cache.format);
    this.#machine.record(rotateHeads(cache.format), {
      tensors,
      numbers: { rows, heads, epsilon, ...numbers, perWord },
      workgroups: { groups: rows * (heads + cache.kvHeads) },
    });
    return true;
  }

  /** Attention over pages, and rounding for the product that follows. */
  attention(args: Args<"attention">): boolean {
    const { query, out } = args;
    const buffers = [query, out, args.rowSequence, args.rowLength, args.pageTable].map((tensor) =>
      rangeOf(tensor, tensor.dtype)
    );
    const shared = this.#sharedAttention;
    if (sizeOf(out) === 0 || !roundsRows(args, { shared })) return false;
    // The cache, the codes, and sums of spans.
    if (!this.#machine.fits(buffers, 3) || !areDisjoint(query, out)) return false;
    const input = { range: rangeOf(out), rows: rowsOf(out), columns: widthOf(out) };
    const codes = this.#activations.place(input);
    recordPaged(this.#machine, args, { shared, codes });
    return true;
  }

  /** Products of one input with two or three weights; with `gates` also silu(first) * second. */
  products(calls: readonly Args<"matmul">[], { gates }: { gates: boolean }): boolean {
    const [{ input, weight: first }] = calls as [Args<"matmul">];
    const rows = rowsOf(input);
    const outs = calls.map(({ out }) => out);
    const disjoint = [input, ...outs].every((a, i) => {
      return outs.slice(i).every((b) => a === b || areDisjoint(a, b));
    });
    if (rows === 0 || rows > VECTOR_ROWS_MAX || !disjoint) return false;
    if (!calls.every((call) => isPlainProduct(call, { like: first, rows, input }))) return false;
    if (gates && calls.some(({ weight }) => weight.rows !== first.rows)) return false;
    const perGroup = vectorRows(rows);
    const most = Math.min(this.#tuning[first.format].vectorPanels, PARTIALS_MAX / perGroup);
    const panels = gates ? Math.max(2, most) : most;
    const ends: number[] = [];
    for (const { weight } of calls) ends.push((ends.at(-1) ?? 0) + panelCount(weight));
    const tensors = Object.fromEntries(calls.flatMap(({ weight, out }, i) => [
      [`weight${i}`, wholeBlock(matrixStorage(weight).blocks[0]!)],
      [`out${i}`, rangeOf(out)],
    ]));
    if (!this.#machine.fits([rangeOf(input), ...Object.values(tensors)], 1)) return false;
    const { columns, groups, panelVectors } = weightNumbers(first);
    const options = { format: first.format, weights: calls.length, gates };
    this.#machine.record(jointProduct({ ...options, rows: perGroup, panels }), {
      tensors: { ...this.#inputs(input, first), ...tensors },
      numbers: {
        ...{ rows, columns, groups, panelVectors },
        ...Object.fromEntries(calls.map(({ weight }, i) => [`width${i}`, weight.rows])),
        ...Object.fromEntries(ends.map((end, i) => [`end${i}`, end])),
      },
      workgroups: [Math.ceil(ends.at(-1)! / panels), 1],
    });
    return true;
  }

  #inputs(input: Tensor, { format, columns }: Matrix): Readonly<Record<string, Range>> {
    const range = rangeOf(input);
    if (!isQuantised(format)) return { input: range };
    return this.#activations.codesOf({ range, rows: rowsOf(input), columns });
  }
}

/** A sum of equal shapes, whose terms the norm does not overwrite before they are read. */
function isPlainSum({ left, right, out }: Args<"add">, norm: Args<"rmsNorm">): boolean {
  const isInPlace = isSameView(norm.out, out);
  return sizeOf(left) === sizeOf(right) && sizeOf(left) === sizeOf(out) &&
    isSameView(out, norm.input) &&
    [left, right].every((term) =>
      (isSameView(term, out) || areDisjoint(term, out)) &&
      (isInPlace || areDisjoint(term, norm.out))
    );
}

/** In place, and with the numbers of the other part. */
function isHeadRotation(
  { norm, rope }: HeadArgs["query"],
  { position, table, width }: { position: Tensor; table: Tensor; width: number },
): boolean {
  return widthOf(norm.input) === width && sizeOf(norm.weight) === width &&
    [norm.out, rope.input, rope.out].every((tensor) => isSameView(tensor, norm.input)) &&
    rope.headWidth === width && width % 2 === 0 &&
    isSameView(rope.position, position) && isSameView(rope.table, table) &&
    rowsOf(rope.input) === sizeOf(position) && widthOf(table) === width;
}

function isPlainProduct(
  { input, weight, bias, out }: Args<"matmul">,
  of: { like: Matrix; rows: number; input: Tensor },
): boolean {
  return bias === undefined && isSameView(input, of.input) && weight.experts === 1 &&
    weight.format === of.like.format && weight.columns === of.like.columns &&
    widthOf(input) === weight.columns && rowsOf(out) === of.rows && widthOf(out) === weight.rows &&
    matrixStorage(weight).blocks.length === 1;
}
