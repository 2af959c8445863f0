/** Watches the events of one request and compares them with the directly computed answer. */
import assert from "node:assert/strict";
import type { EngineEvent, GenerationRequest } from "@/engine/request.ts";
import { directLogits } from "./fake_model.ts";
import { type Answer, directAnswer, directLogprob } from "./workload.ts";

interface Choice {
  readonly expected: Answer;
  readonly ids: number[];
  /** The caller ended it with finishChoice(). */
  cut: boolean;
  reason: string | undefined;
}

export class AnswerChecker {
  readonly request: GenerationRequest;
  readonly choices: Choice[];
  #prefilled = 0;
  #scored = false;

  constructor(request: GenerationRequest, options: { contextTokens: number }) {
    this.request = request;
    this.choices = Array.from({ length: request.choices }, (_, choice) => ({
      expected: directAnswer(request, { choice, contextTokens: options.contextTokens }),
      ids: [],
      cut: false,
      reason: undefined,
    }));
  }

  get hasEnded(): boolean {
    return this.choices.every((choice) => choice.reason !== undefined);
  }

  see(event: EngineEvent): void {
    if (event.type === "prefill") return this.#seePrefill(event);
    if (event.type === "prompt_logprobs") return this.#seeScores(event.entries);
    const choice = this.choices[event.choice]!;
    assert.equal(choice.reason, undefined, "nothing follows a finish event");
    if (event.type === "token") return this.#seeToken(choice, event);
    choice.reason = event.reason;
    // A cut comes too late for a choice whose end was made but not yet read.
    if (choice.cut && event.reason === "stop") return;
    assert.deepEqual(choice.ids, choice.expected.ids, "tokens of the request alone");
    assert.equal(event.reason, choice.expected.reason);
    if (this.request.params.maxTokens === 0) this.#requirePrompt();
  }

  #seePrefill(event: EngineEvent & { type: "prefill" }): void {
    assert.equal(event.total, this.request.promptIds.length);
    assert.ok(event.computed > this.#prefilled && event.computed <= event.total, "progress");
    assert.ok(event.cached < event.total, "the last prompt token is always computed");
    assert.ok(event.cached <= event.computed);
    assert.ok(this.choices.every((choice) => choice.ids.length === 0));
    this.#prefilled = event.computed;
  }

  #requirePrompt(): void {
    assert.equal(this.#prefilled, this.request.promptIds.length, "prompt complete before tokens");
    assert.equal(this.#scored, this.request.promptLogprobs, "prompt logprobs before tokens");
  }

  #seeScores(entries: (EngineEvent & { type: "prompt_logprobs" })["entries"]): void {
    const { promptIds, tiles, params } = this.request;
    assert.ok(this.request.promptLogprobs && !this.#scored, "prompt logprobs once, when wanted");
    this.#scored = true;
    assert.equal(entries.length, promptIds.length);
    assert.equal(entries[0], null);
    for (const [i, entry] of entries.entries()) {
      if (entry === null) continue;
      const logits = directLogits(promptIds.slice(0, i), tiles);
      assert.equal(entry.chosen.id, promptIds[i]);
      assert.ok(Math.abs(entry.chosen.logprob - directLogprob(logits, promptIds[i]!)) < 1e-4);
      assert.equal(entry.top.length, params.topLogprobs ?? 0);
    }
  }

  #seeToken(choice: Choice, event: EngineEvent & { type: "token" }): void {
    const { params } = this.request;
    this.#requirePrompt();
    const position = choice.ids.length;
    choice.ids.push(event.id);
    const wanted = choice.expected.ids[position];
    assert.equal(event.id, wanted, `token ${position} of choice ${event.choice}`);
    assert.equal(event.top.length, params.topLogprobs ?? 0);
    if (this.request.speculates === false) assert.equal(event.drafts, undefined);
    if (params.topLogprobs === undefined) return assert.equal(event.logprob, undefined);
    assert.equal(event.logprob?.id, event.id);
    const expected = choice.expected.logprobs[position]!;
    assert.ok(Math.abs(event.logprob!.logprob - expected) < 1e-4, "logprob of unmodified logits");
    const sorted = event.top.map((entry) => entry.logprob);
    assert.deepEqual(sorted, sorted.toSorted((a, b) => b - a));
  }
}
