/**
 * Answers with their advantages as one update of the policy: packed into micro-batches, with the loss
 * that the trainer asks for between its two passes. Chooses no advantages and takes no step.
 */
import { assert } from "@/assert.ts";
import type { EncodedQuestion } from "../conversation_encoder.ts";
import type { ProgramBatch } from "../packed_forward.ts";
import { policyLoss, type PolicyLossOptions } from "../policy/policy_loss.ts";
import type { PolicyLoss } from "../trainer.ts";
import type { Answer } from "./answerer.ts";

/** One answer to learn from. */
export interface WeighedAnswer {
  readonly question: EncodedQuestion;
  readonly answer: Answer;
  readonly advantage: number;
}

/** What the loss saw, over all tokens of the update. */
export interface PolicyFigures {
  /** Share of tokens whose ratio was clipped, from either side. */
  readonly clipFraction: number;
  /** Mean of the log probability when drawn minus the one before this update. */
  readonly approximateKl: number;
  /** Mean distance of the two. */
  readonly drift: number;
}

/** Rows of the policy's loss for a number of tokens in the whole update. */
export type LossForTokens = (tokens: number) => PolicyLossOptions;

export class PolicyMinibatch {
  readonly batches: readonly ProgramBatch[];
  readonly #packs: ReadonlyMap<ProgramBatch, readonly WeighedAnswer[]>;
  readonly #options: PolicyLossOptions;
  readonly #tokens: number;
  readonly #answers: number;
  #clipped = 0;
  #kl = 0;
  #drift = 0;

  /** Answers of one question stand side by side, so that they share its pictures. */
  constructor(
    answers: readonly WeighedAnswer[],
    { rowsMax, lossOf }: { rowsMax: number; lossOf: LossForTokens },
  ) {
    assert(answers.length > 0, "an update has answers");
    this.#answers = answers.length;
    this.#tokens = answers.reduce((sum, { answer }) => sum + answer.ids.length, 0);
    this.#options = lossOf(this.#tokens);
    const packs = packsOf(answers, rowsMax);
    this.#packs = new Map(packs.map((pack) => [packAnswers(pack), pack]));
    this.batches = [...this.#packs.keys()];
  }

  /** Of one micro-batch; those of all of them sum to the loss of the update. */
  readonly loss: PolicyLoss = (batch, logprobs) => {
    const pack = this.#packs.get(batch);
    assert(pack, "a micro-batch of this update");
    let at = 0;
    const now = pack.map(({ answer }) => [...logprobs.subarray(at, at += answer.ids.length)]);
    const old = pack.map(({ answer }) => answer.logprobs);
    const judged = policyLoss({
      old,
      now,
      mask: now.map((row) => row.map(() => 1)),
      advantages: now.map((row, i) => row.map(() => pack[i]!.advantage)),
    }, this.#options);
    this.#clipped += (judged.clipFraction + judged.lowerClipFraction) * at;
    this.#kl += judged.approximateKl * at;
    this.#drift += sum(
      now.map((row, i) => sum(row.map((value, t) => Math.abs(value - old[i]![t]!)))),
    );
    // Means over answers are those of the micro-batch; token sums are divided for the whole.
    const share = this.#options.aggregation.kind === "token_sum" ? 1 : pack.length / this.#answers;
    return {
      loss: judged.loss * share,
      slopes: Float32Array.from(judged.gradient.flat(), (slope) => slope * share),
    };
  };

  /** After the update. */
  get figures(): PolicyFigures {
    const tokens = this.#tokens;
    return {
      clipFraction: this.#clipped / tokens,
      approximateKl: this.#kl / tokens,
      drift: this.#drift / tokens,
    };
  }
}

/** Rows of an answer after its question: the last token predicts nothing. */
function rowsOf({ question, answer }: WeighedAnswer): number {
  return question.ids.length + answer.ids.length - 1;
}

/** In order, as many as fit; one that is longer than the bound is alone. */
function packsOf(answers: readonly WeighedAnswer[], rowsMax: number): WeighedAnswer[][] {
  const packs: WeighedAnswer[][] = [];
  let rows = Infinity;
  for (const answer of answers) {
    const own = rowsOf(answer);
    if (rows + own > rowsMax) {
      packs.push([]);
      rows = 0;
    }
    packs.at(-1)!.push(answer);
    rows += own;
  }
  return packs;
}

/** One after the other; the pictures of a question once, for all of its answers. */
function packAnswers(pack: readonly WeighedAnswer[]): ProgramBatch {
  const rows = sum(pack.map(rowsOf));
  const tokenIds = new Int32Array(rows);
  const positions = new Int32Array(rows);
  const [visualRows, visualTokens, scoredRows, targets] = [[], [], [], []] as number[][];
  const tiles: Uint8Array[] = [];
  const firstVisual = new Map<EncodedQuestion, number>();
  let [at, visual] = [0, 0];
  for (const { question, answer } of pack) {
    const ids = [...question.ids, ...answer.ids];
    const own = ids.length - 1;
    for (let j = 0; j < own; j++) {
      tokenIds[at + j] = ids[j]!;
      positions[at + j] = j;
      if (j + 1 < question.ids.length) continue;
      scoredRows!.push(at + j);
      targets!.push(ids[j + 1]!);
    }
    const counts = sum(question.spans.map(({ count }) => count));
    if (!firstVisual.has(question)) {
      firstVisual.set(question, visual);
      visual += counts;
      tiles.push(...question.tiles);
    }
    let next = firstVisual.get(question)!;
    for (const { start, count } of question.spans) {
      for (let j = 0; j < count; j++) {
        visualRows!.push(at + start + j);
        visualTokens!.push(next++);
      }
    }
    at += own;
  }
  return {
    tokenIds,
    positions,
    tiles: joined(tiles),
    visualRows: Int32Array.from(visualRows!),
    visualTokens: Int32Array.from(visualTokens!),
    scoredRows: Int32Array.from(scoredRows!),
    targets: Int32Array.from(targets!),
    weights: new Float32Array(targets!.length).fill(1),
  };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(sum(parts.map(({ length }) => length)));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function sum(values: readonly number[]): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
