/** Mixture-of-experts bookkeeping. */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
import { rowsOf, widthOf } from "@/tensor/tensor.ts";
import type { Ops } from "../ops.ts";
import { expectShape, expectSize, sizeOf } from "../shape.ts";
import type { Machine } from "./machine.ts";
import { rangeOf } from "./ranges.ts";
import * as shaders from "./shaders/experts.ts";

export function expertOps(
  machine: Machine,
): Pick<Ops, "gateTopK" | "groupByExpert" | "combineRows"> {
  return {
    gateTopK({ logits, k, normalize, expertIndex, expertWeight }) {
      const [rows, experts] = [rowsOf(logits), widthOf(logits)];
      assert(k >= 1 && k <= experts, `${k} of ${experts} experts`);
      assert(experts <= shaders.EXPERTS_MAX, `${experts} experts`);
      expectShape("expertIndex", expertIndex, [rows, k]);
      expectShape("expertWeight", expertWeight, [rows, k]);
      machine.record(shaders.gateTopK, {
        tensors: {
          logits: rangeOf(logits),
          expert: rangeOf(expertIndex, "i32"),
          weight: rangeOf(expertWeight),
        },
        numbers: { rows, experts, choices: k, normalize: normalize ? 1 : 0 },
        workgroups: { groups: rows },
      });
    },
    groupByExpert({ expertIndex, experts, expertStart, groupedPair, pairPlace }) {
      const pairs = sizeOf(expertIndex);
      assert(experts <= shaders.EXPERTS_MAX, `${experts} experts`);
      expectSize("expertStart", expertStart, experts + 1);
      expectSize("groupedPair", groupedPair, pairs);
      expectSize("pairPlace", pairPlace, pairs);
      machine.record(shaders.groupByExpert, {
        tensors: {
          expert: rangeOf(expertIndex, "i32"),
          start: rangeOf(expertStart, "i32"),
          grouped: rangeOf(groupedPair, "i32"),
          place: rangeOf(pairPlace, "i32"),
        },
        numbers: { pairs, experts },
        workgroups: [1, 1],
      });
    },
    combineRows({ input, pairPlace, expertWeight, out }) {
      const [rows, width, choices] = [rowsOf(out), widthOf(out), widthOf(expertWeight)];
      assert(choices <= limits.expertChoicesMax, `${choices} choices`);
      expectShape("expertWeight", expertWeight, [rows, choices]);
      expectSize("pairPlace", pairPlace, rows * choices);
      expectShape("input", input, [rows * choices, width]);
      const count = rows * width;
      machine.record(shaders.combineRows, {
        tensors: {
          input: rangeOf(input),
          place: rangeOf(pairPlace, "i32"),
          weight: rangeOf(expertWeight),
          out: rangeOf(out),
        },
        numbers: { count, width, choices },
        workgroups: { groups: Math.ceil(count / shaders.EXPERT_GROUP) },
      });
    },
  };
}
