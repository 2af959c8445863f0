/** Inputs of products, rounded to int8: where they lie, and which are there already. */
import type { Machine } from "./machine.ts";
import { groupsOf } from "./ranges.ts";
import { CODE_WORDS, QUANTIZE_GROUP, quantizeRows } from "./shaders/products.ts";
import type { Range } from "./storage.ts";

/** Rows of values to round. */
export interface Rows {
  readonly range: Range;
  readonly rows: number;
  readonly columns: number;
}

/** Tensors of `codeTensors`. */
export type Codes = Readonly<Record<"codes" | "codeScale" | "codeSum", Range>>;

/** One input at a time is kept, until its values change or the program ends. */
export class Activations {
  readonly #machine: Machine;
  #kept: { readonly of: Rows; readonly codes: Codes } | undefined;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** The codes of an input; rounding is recorded unless they are there. */
  codesOf(input: Rows): Codes {
    if (this.#kept && isSame(this.#kept.of, input)) return this.#kept.codes;
    const codes = this.place(input);
    const groups = groupsOf(input.columns);
    const count = input.rows * groups;
    this.#machine.record(quantizeRows, {
      tensors: { input: input.range, ...codes },
      numbers: { count, columns: input.columns, groups },
      workgroups: { groups: Math.ceil(count / QUANTIZE_GROUP) },
    });
    return codes;
  }

  /** Where the kernel recorded next writes the codes of an input. */
  place(input: Rows): Codes {
    const count = input.rows * groupsOf(input.columns);
    const codeBytes = 4 * CODE_WORDS * count;
    const { block } = this.#machine.scratch("codes", codeBytes + 8 * count);
    const codes = {
      codes: { block, byteOffset: 0, sizeBytes: codeBytes },
      codeScale: { block, byteOffset: codeBytes, sizeBytes: 4 * count },
      codeSum: { block, byteOffset: codeBytes + 4 * count, sizeBytes: 4 * count },
    };
    this.#kept = { of: input, codes };
    return codes;
  }

  /** To be called when what is kept may have changed. */
  forget(): void {
    this.#kept = undefined;
  }
}

function isSame(a: Rows, b: Rows): boolean {
  return a.range.block === b.range.block && a.range.byteOffset === b.range.byteOffset &&
    a.rows === b.rows && a.columns === b.columns;
}
