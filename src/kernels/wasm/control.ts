/**
 * The control block that the main thread and the team share; its layout is `Control` in
 * `kernels-rs/compute/src/team.rs`. Indexes count 32-bit words from the block's start.
 */
export const CONTROL_BYTES = 384;

export const controlWord = {
  epoch: 0,
  done: 16,
  generation: 48,
  stop: 64,
  fault: 80,
  faultValue: 81,
  program: 82,
  recordCount: 84,
  spins: 86,
} as const;

/** Reasons by the number in `fault`: data that would lead a kernel outside its tensors. */
export const faultNames: Readonly<Record<number, string>> = {
  1: "opcode",
  2: "row index",
  3: "position",
  4: "cache slot",
  5: "cache page or row length",
  6: "expert index",
  7: "token or mask index",
};
