/** Ops on single values, and norms. */
import { assert } from "@/assert.ts";
import { rowsOf, type Tensor, widthOf } from "@/tensor/tensor.ts";
import type { Ops } from "../ops.ts";
import { expectShape, expectSize, sizeOf } from "../shape.ts";
import type { Machine } from "./machine.ts";
import { rangeOf } from "./ranges.ts";
import * as shaders from "./shaders/elementwise.ts";

const groupsFor = (count: number) => ({ groups: Math.ceil(count / shaders.VALUE_GROUP) });

export function valueOps(
  machine: Machine,
): Pick<Ops, "swiglu" | "gelu" | "add" | "rmsNorm" | "layerNorm"> {
  return { ...elementOps(machine), ...normOps(machine) };
}

function elementOps(machine: Machine): Pick<Ops, "swiglu" | "gelu" | "add"> {
  return {
    swiglu({ gate, up, out }) {
      const count = sizeOf(out);
      expectSize("gate", gate, count);
      expectSize("up", up, count);
      machine.record(shaders.swiglu, {
        tensors: { gate: rangeOf(gate), up: rangeOf(up), out: rangeOf(out) },
        numbers: { count },
        workgroups: groupsFor(count),
      });
    },
    gelu({ input, out }) {
      const count = sizeOf(out);
      expectSize("input", input, count);
      machine.record(shaders.gelu, {
        tensors: { input: rangeOf(input), out: rangeOf(out) },
        numbers: { count },
        workgroups: groupsFor(count),
      });
    },
    add({ left, right, out }) {
      const count = sizeOf(out);
      const rightCount = sizeOf(right);
      expectSize("left", left, count);
      const divides = count === 0 || count % rightCount === 0;
      assert(divides, `[${right.shape}] does not divide [${left.shape}]`);
      machine.record(shaders.add, {
        tensors: { left: rangeOf(left), right: rangeOf(right), out: rangeOf(out) },
        numbers: { count, rightCount },
        workgroups: groupsFor(count),
      });
    },
  };
}

function normOps(machine: Machine): Pick<Ops, "rmsNorm" | "layerNorm"> {
  const args = (of: { input: Tensor; weight: Tensor; epsilon: number; out: Tensor }) => {
    const { input, weight, epsilon, out } = of;
    const [rows, width] = [rowsOf(input), widthOf(input)];
    expectSize("weight", weight, width);
    expectShape("out", out, [rows, width]);
    return {
      tensors: { input: rangeOf(input), weight: rangeOf(weight), out: rangeOf(out) },
      numbers: { rows, width, epsilon },
      workgroups: { groups: rows },
    };
  };
  return {
    rmsNorm: (of) => machine.record(shaders.rmsNorm, args(of)),
    layerNorm(of) {
      expectSize("bias", of.bias, widthOf(of.input));
      const { tensors, ...rest } = args(of);
      const bias = rangeOf(of.bias);
      machine.record(shaders.layerNorm, { tensors: { ...tensors, bias }, ...rest });
    },
  };
}
