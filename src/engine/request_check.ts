/** What a request must satisfy before the scheduler takes it; the rest of the engine relies on it. */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { GenerationRequest } from "./request.ts";

export interface RequestRules {
  readonly contextTokens: number;
  /** Ids that the embedding has rows for. */
  readonly vocabularySize: number;
  readonly tokensPerTile: number;
  readonly tileSize: number;
}

function refuse(message: string, field?: string): never {
  throw new OperatingError("invalid_request", message, { field });
}

/** Throws OperatingError "invalid_request" or "context_length_exceeded". */
export function checkRequest(request: GenerationRequest, rules: RequestRules): void {
  const { promptIds, choices, params } = request;
  if (promptIds.length === 0) refuse("Cannot run an empty prompt: at least 1 token is needed");
  if (promptIds.length >= rules.contextTokens) {
    throw new OperatingError(
      "context_length_exceeded",
      `Cannot run ${promptIds.length} prompt tokens: the context is ${rules.contextTokens} tokens` +
        " and the answer needs at least 1",
    );
  }
  checkIds(promptIds, { what: "token id", rules });
  checkIds(params.logitBias.keys(), { what: "logit_bias id", rules, field: "logit_bias" });
  if (params.logitBias.size > limits.logitBiasEntriesMax) {
    refuse(
      `Cannot bias ${params.logitBias.size} tokens: at most ${limits.logitBiasEntriesMax}`,
      "logit_bias",
    );
  }
  if (!(Number.isInteger(choices) && choices >= 1 && choices <= limits.choicesMax)) {
    refuse(`Cannot make ${choices} choices: 1 to ${limits.choicesMax} are possible`, "n");
  }
  const top = params.topLogprobs ?? 0;
  if (top > limits.candidatesMax) {
    refuse(`Cannot give ${top} candidates: at most ${limits.candidatesMax}`, "top_logprobs");
  }
  checkTiles(request, rules);
}

function checkIds(
  ids: Iterable<number>,
  args: { what: string; rules: RequestRules; field?: string },
): void {
  const { vocabularySize } = args.rules;
  for (const id of ids) {
    if (!(Number.isInteger(id) && id >= 0 && id < vocabularySize)) {
      refuse(`Cannot use ${args.what} ${id}: ids are 0 to ${vocabularySize - 1}`, args.field);
    }
  }
}

/** Tiles stand inside the prompt, in order, apart from each other, with all their pixels. */
function checkTiles({ tiles, promptIds }: GenerationRequest, rules: RequestRules): void {
  const { tokensPerTile, tileSize } = rules;
  let free = 0;
  for (const { start, pixels } of tiles) {
    if (!(Number.isInteger(start) && start >= free && start + tokensPerTile <= promptIds.length)) {
      refuse(`Cannot place a tile of ${tokensPerTile} tokens at ${start} in the prompt`);
    }
    if (pixels.length !== tileSize * tileSize * 3) {
      refuse(`Cannot use a tile of ${pixels.length} bytes: ${tileSize * tileSize * 3} are needed`);
    }
    free = start + tokensPerTile;
  }
}
