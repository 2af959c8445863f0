/** Which matrices of a decoder layer may have low-rank additions, in the checkpoint's spelling. */

export const loraTargets = [
  "q_proj",
  "k_proj",
  "v_proj",
  "o_proj",
  "gate_proj",
  "up_proj",
  "down_proj",
] as const;

export type LoraTarget = (typeof loraTargets)[number];
