/**
 * Recorded ops wait here until the program is handed over, so that neighbours that make one dispatch
 * are found. What is found changes no result: every tensor gets the bits that single ops give.
 */
import type { Tensor } from "@/tensor/tensor.ts";
import { isQuantised } from "../matrix_layout.ts";
import type { Ops } from "../ops.ts";
import type { Activations } from "./activations.ts";
import { areDisjoint, isSameView, type JointOps } from "./joint_ops.ts";

type Args<Name extends keyof Ops> = Parameters<Ops[Name]>[0];
/** One recorded op. */
type Call = { [Name in keyof Ops]: { readonly name: Name; readonly args: Args<Name> } }[keyof Ops];

/** Products that one dispatch computes at most. */
const PRODUCTS_MAX = 3;

export class Fusion {
  /** The vocabulary as the model sees it. */
  readonly ops: Ops;
  readonly #single: Ops;
  readonly #joint: JointOps;
  readonly #activations: Activations;
  #calls: Call[] = [];

  constructor(parts: { single: Ops; joint: JointOps; activations: Activations }) {
    this.#single = parts.single;
    this.#joint = parts.joint;
    this.#activations = parts.activations;
    const waiting = (name: string) => (args: unknown) => {
      this.#calls.push({ name, args } as Call);
    };
    const names = Object.keys(parts.single);
    this.ops = Object.fromEntries(names.map((name) => [name, waiting(name)])) as unknown as Ops;
  }

  /** Records what waits as dispatches. */
  drain(): void {
    if (this.#calls.length === 0) return;
    const calls = this.#calls;
    this.#calls = [];
    try {
      for (let i = 0; i < calls.length;) {
        const rest = calls.slice(i, i + 6);
        i += this.#norm(rest) || this.#heads(rest) || this.#products(rest) ||
          this.#attention(rest) || this.#one(rest[0]!);
      }
    } finally {
      this.#activations.forget();
    }
  }

  #one({ name, args }: Call): number {
    const isProduct = name === "matmul" || name === "expertMatmul";
    if (!isProduct) this.#activations.forget();
    (this.#single[name] as (args: unknown) => void)(args);
    if (isProduct && !areDisjoint(args.input, args.out)) this.#activations.forget();
    return 1;
  }

  /** [add] rmsNorm, before a product or not. */
  #norm(calls: readonly Call[]): number {
    const add = calls[0]?.name === "add" ? calls[0].args : undefined;
    const count = add ? 2 : 1;
    const norm = calls[count - 1];
    if (norm?.name !== "rmsNorm") return 0;
    const rounds = wantsCodesOf(norm.args.out, calls[count]);
    if (!add && !rounds) return 0;
    this.#activations.forget();
    return this.#joint.norm({ add, norm: norm.args, rounds }) ? count : 0;
  }

  #heads([queryNorm, queryRope, keyNorm, keyRope, store]: readonly Call[]): number {
    if (queryNorm?.name !== "rmsNorm" || queryRope?.name !== "rope") return 0;
    if (keyNorm?.name !== "rmsNorm" || keyRope?.name !== "rope") return 0;
    if (store?.name !== "writeKv") return 0;
    this.#activations.forget();
    const done = this.#joint.heads({
      query: { norm: queryNorm.args, rope: queryRope.args },
      key: { norm: keyNorm.args, rope: keyRope.args },
      store: store.args,
    });
    return done ? 5 : 0;
  }

  #attention([attention, next]: readonly Call[]): number {
    if (attention?.name !== "attention" || !wantsCodesOf(attention.args.out, next)) return 0;
    this.#activations.forget();
    return this.#joint.attention(attention.args) ? 1 : 0;
  }

  #products(calls: readonly Call[]): number {
    const products: Args<"matmul">[] = [];
    for (const call of calls.slice(0, PRODUCTS_MAX)) {
      if (call.name !== "matmul") break;
      const [first = call.args] = products;
      const isAlike = isSameView(call.args.input, first.input) &&
        call.args.weight.format === first.weight.format;
      if (!isAlike) break;
      products.push(call.args);
    }
    if (products.length < 2) return 0;
    const next = calls[products.length];
    const gates = products.length === 2 && next?.name === "swiglu" &&
      areGates(next.args, products as [Args<"matmul">, Args<"matmul">]);
    if (!this.#joint.products(products, { gates })) return 0;
    if (gates) this.#activations.forget();
    return products.length + (gates ? 1 : 0);
  }
}

/** Whether what comes next is a product that takes the rows rounded. */
function wantsCodesOf(out: Tensor, next: Call | undefined): boolean {
  if (next?.name !== "matmul" && next?.name !== "expertMatmul") return false;
  const { input, weight } = next.args;
  return isQuantised(weight.format) && isSameView(input, out) &&
    input.shape.at(-1) === out.shape.at(-1) && weight.columns === out.shape.at(-1);
}

/** silu(first) * second, in place of the first. */
function areGates(
  { gate, up, out }: Args<"swiglu">,
  [first, second]: [Args<"matmul">, Args<"matmul">],
): boolean {
  return isSameView(gate, first.out) && isSameView(up, second.out) && isSameView(out, gate);
}
