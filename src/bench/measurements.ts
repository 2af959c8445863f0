/**
 * What is timed on a rig, each through the whole engine with tokens in and tokens out. Every
 * function gives one sample; repeating, limits and names are the group's.
 */
import { sliceRows } from "@/tensor/tensor.ts";
import type { Rig } from "./rig.ts";

/** Answer tokens of one decode sample. */
export const DECODE_TOKENS = 64;
/** Prompt tokens of one prefill sample. */
export const PREFILL_TOKENS = 512;
/** Answer tokens of one sequence of a batch sample. */
const BATCH_TOKENS = 32;
/** Text around a picture's visual tokens. */
const PICTURE_TEXT_TOKENS = 16;

/** Prompt tokens per second, from submission to the first token of the answer. */
export async function prefill(rig: Rig, promptTokens = PREFILL_TOKENS): Promise<number> {
  const { submittedMs, tokensMs } = await rig.generate({ ids: rig.promptIds(promptTokens) }, 1);
  return promptTokens * 1000 / (tokensMs[0]! - submittedMs);
}

/** Answer tokens per second of one sequence, from an empty context on, after the first token. */
export async function decode(rig: Rig, tokens = DECODE_TOKENS): Promise<number> {
  const { tokensMs } = await rig.generate({ ids: rig.promptIds(1) }, tokens + 1);
  return tokens * 1000 / (tokensMs.at(-1)! - tokensMs[0]!);
}

/** Answer tokens per second of `sequences` together, while all of them run. */
export async function decodeBatch(
  rig: Rig,
  sequences: number,
  tokens = BATCH_TOKENS,
): Promise<number> {
  const timelines = await Promise.all(
    Array.from({ length: sequences }, () => rig.generate({ ids: rig.promptIds(1) }, tokens + 1)),
  );
  const startMs = Math.max(...timelines.map(({ tokensMs }) => tokensMs[0]!));
  const endMs = Math.min(...timelines.map(({ tokensMs }) => tokensMs.at(-1)!));
  const counted = timelines.map(({ tokensMs }) =>
    tokensMs.filter((ms) => ms > startMs && ms <= endMs).length
  );
  return counted.reduce((sum, count) => sum + count, 0) * 1000 / (endMs - startMs);
}

/** Seconds from submitting a prompt with one new picture of one tile to the first token. */
export async function pictureFirstToken(rig: Rig): Promise<number> {
  const before = PICTURE_TEXT_TOKENS / 2;
  const ids = rig.promptIds(rig.loaded.model.tokensPerTile + PICTURE_TEXT_TOKENS);
  const { submittedMs, tokensMs } = await rig.generate({ ids, tiles: [rig.tile(before)] }, 1);
  return (tokensMs[0]! - submittedMs) / 1000;
}

/** Seconds that vision tower and adapter take for one tile. */
export async function encodeTile(rig: Rig): Promise<number> {
  const { model } = rig.loaded;
  const { backend, clock } = rig;
  const { tileSize, tokensPerTile, hiddenWidth } = model;
  const tiles = backend.allocate("u8", [1, tileSize, tileSize, 3]);
  const out = backend.allocate("f32", [tokensPerTile, hiddenWidth]);
  try {
    backend.write(tiles, rig.pixels());
    const startMs = clock.nowMs();
    await model.encodeTiles(tiles, 1, out);
    await backend.flush();
    // A GPU has only been told: what it computed is known when some of it arrives.
    if (backend.name === "webgpu") await backend.read(sliceRows(out, 0, 1));
    return (clock.nowMs() - startMs) / 1000;
  } finally {
    backend.free(tiles);
    backend.free(out);
  }
}
