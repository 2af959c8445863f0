/** Random requests for the engine's simulations, and their tokens computed the direct way. */
import { sample } from "@/kernels/reference/sample.ts";
import type { GenerationRequest, PromptTile } from "@/engine/request.ts";
import { uniformAt } from "@/random.ts";
import { greedyParams, type SamplingParams } from "@/sampling/params.ts";
import {
  directLogits,
  END_IDS,
  IMAGE_ID,
  TILE_SIZE,
  TOKENS_PER_TILE,
  USABLE_VOCABULARY,
  VOCABULARY,
} from "./fake_model.ts";

export type Random = () => number;

export function pick<T>(random: Random, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)]!;
}

/** An integer in [low, high]. */
export function between(random: Random, low: number, high: number): number {
  return low + Math.floor(random() * (high - low + 1));
}

const PICTURES = 6;

/** One of a few pictures, so that requests share some. */
function tileAt(random: Random, start: number): PromptTile {
  const picture = between(random, 1, PICTURES);
  const pixels = Uint8Array.from({ length: TILE_SIZE * TILE_SIZE * 3 }, (_, i) => picture * 17 + i);
  return { hash: `picture-${picture}`, pixels, start };
}

/** A prompt of text and tiles; many prompts begin alike. */
function randomPrompt(random: Random, tokensMax: number) {
  const promptIds: number[] = [];
  const tiles: PromptTile[] = [];
  const family = between(random, 0, 2);
  const target = between(random, 1, tokensMax);
  while (promptIds.length < target) {
    if (random() < 0.25 && promptIds.length + TOKENS_PER_TILE <= tokensMax) {
      tiles.push(tileAt(random, promptIds.length));
      for (let i = 0; i < TOKENS_PER_TILE; i++) promptIds.push(IMAGE_ID);
    } else {
      const run = Math.min(between(random, 1, 12), tokensMax - promptIds.length);
      for (let i = 0; i < run; i++) promptIds.push(4 + (family * 7 + promptIds.length) % 30);
      if (random() < 0.3) promptIds[promptIds.length - 1] = between(random, 4, 40);
    }
  }
  return { promptIds, tiles };
}

function randomParams(random: Random, answerTokensMax: number): SamplingParams {
  const isGreedy = random() < 0.4;
  const maxTokens = between(random, 0, answerTokensMax);
  return {
    ...greedyParams,
    temperature: isGreedy ? 0 : 0.2 + random(),
    topK: pick(random, [0, 0, 5]),
    topP: pick(random, [1, 0.8]),
    minP: pick(random, [0, 0, 0.05]),
    presencePenalty: pick(random, [0, 0.7]),
    frequencyPenalty: pick(random, [0, 0.4]),
    repetitionPenalty: pick(random, [1, 1.3]),
    logitBias: random() < 0.2
      ? new Map([[IMAGE_ID, 100], [47, 100], [between(random, 4, 40), 2]])
      : new Map(),
    seed: between(random, 0, 1 << 30),
    maxTokens,
    minTokens: pick(random, [0, 0, Math.min(4, maxTokens)]),
    ignoreEos: random() < 0.3,
    stopTokenIds: random() < 0.2 ? [between(random, 4, 40)] : [],
    topLogprobs: pick(random, [undefined, undefined, 0, 3]),
  };
}

export function randomRequest(
  random: Random,
  options: { id: string; contextTokens: number; choicesMax: number },
): GenerationRequest {
  const promptMax = Math.max(1, Math.min(40, options.contextTokens - 1));
  return {
    id: options.id,
    ...randomPrompt(random, promptMax),
    params: randomParams(random, 16),
    choices: random() < 0.7 ? 1 : between(random, 1, options.choicesMax),
    promptLogprobs: random() < 0.15,
    ...(random() < 0.1 && { speculates: false }),
  };
}

/** What the engine must answer for one choice. */
export interface Answer {
  readonly ids: readonly number[];
  readonly logprobs: readonly number[];
  readonly reason: "stop" | "length";
}

/** Tokens of one choice by the plain definition: one token at a time, everything recomputed. */
export function directAnswer(
  request: GenerationRequest,
  options: { choice: number; contextTokens: number },
): Answer {
  const { params, promptIds, tiles } = request;
  const ids: number[] = [];
  const logprobs: number[] = [];
  while (ids.length < params.maxTokens && promptIds.length + ids.length < options.contextTokens) {
    const logits = directLogits([...promptIds, ...ids], tiles);
    const uniform = uniformAt(params.seed, options.choice, ids.length);
    const id = directDraw({ request, ids, uniform, logits: logits.slice() });
    ids.push(id);
    logprobs.push(directLogprob(logits, id));
    if (params.stopTokenIds.includes(id) || (END_IDS.includes(id) && !params.ignoreEos)) {
      return { ids, logprobs, reason: "stop" };
    }
  }
  return { ids, logprobs, reason: "length" };
}

export function directLogprob(logits: Float32Array, id: number): number {
  let total = 0;
  for (const logit of logits) total += Math.exp(logit);
  return logits[id]! - Math.log(total);
}

/** Changes the logits by the formulas, then lets the reference op draw from a single row. */
function directDraw(args: {
  request: GenerationRequest;
  ids: readonly number[];
  uniform: number;
  logits: Float32Array;
}): number {
  const { request: { params, promptIds }, ids, logits, uniform } = args;
  for (let id = 0; id < VOCABULARY; id++) {
    const count = ids.filter((other) => other === id).length;
    let logit = logits[id]!;
    if (count > 0 || promptIds.includes(id)) {
      const penalty = Math.fround(params.repetitionPenalty);
      logit = Math.fround(logit > 0 ? logit / penalty : logit * penalty);
    }
    const add = (params.logitBias.get(id) ?? 0) - params.frequencyPenalty * count -
      (count > 0 ? params.presencePenalty : 0);
    logit = Math.fround(logit + Math.fround(add));
    const ends = END_IDS.includes(id) || params.stopTokenIds.includes(id);
    const isForbidden = id >= USABLE_VOCABULARY || id === IMAGE_ID ||
      (ends && ids.length < params.minTokens);
    logits[id] = isForbidden ? -Infinity : logit;
  }
  return drawOne(logits, [params.temperature, params.topK, params.topP, params.minP, uniform]);
}

function drawOne(logits: Float32Array, params: readonly number[]): number {
  const id = new Int32Array(1);
  sample({
    logits,
    vocabularySize: logits.length,
    params: Float32Array.of(...params, -1, -1, 0),
    mask: new Int32Array(0),
    adjustStart: Int32Array.of(0, 0),
    adjustToken: new Int32Array(0),
    adjustPenalty: new Float32Array(0),
    adjustAdd: new Float32Array(0),
    id,
    logprob: new Float32Array(1),
    candidateId: new Int32Array(0),
    candidateLogprob: new Float32Array(0),
  });
  return id[0]!;
}
