/** The conformance table: every backend must pass every case. */
import type { KernelCase } from "./case.ts";
import { attentionCases } from "./attention_cases.ts";
import { elementwiseCases } from "./elementwise_cases.ts";
import { expertCases } from "./expert_cases.ts";
import { productCases } from "./product_cases.ts";
import { sampleCases } from "./sample_cases.ts";

export const kernelCases: readonly KernelCase[] = [
  ...productCases,
  ...elementwiseCases,
  ...attentionCases,
  ...expertCases,
  ...sampleCases,
];
