/** Which matrices of a decoder layer may have low-rank additions. */

export const loraTargets = ["query", "key", "value", "output", "gate", "up", "down"] as const;

export type LoraTarget = (typeof loraTargets)[number];
