/** What a request must satisfy before the scheduler takes it; the rest of the engine relies on it. */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { GenerationRequest } from "./request.ts";

export interface RequestRules {
  readonly contextTokens: number;
  /** Ids that the embedding has rows for. */
  readonly vocabularySize: number;
  readonly tokensPerTile: number;
  /** Largest tile or whole picture. */
  readonly pictureTokensMax: number;
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
  const { tileSize, pictureTokensMax } = rules;
  let free = 0;
  for (const { start, pixels, picture } of tiles) {
    const tokens = picture?.tokens ?? rules.tokensPerTile;
    if (tokens > pictureTokensMax) {
      refuse(`Cannot encode a picture of ${tokens} tokens: at most ${pictureTokensMax}`);
    }
    if (!(Number.isInteger(start) && start >= free && start + tokens <= promptIds.length)) {
      refuse(`Cannot place a tile of ${tokens} tokens at ${start} in the prompt`);
    }
    const bytes = (picture ? picture.width * picture.height : tileSize * tileSize) * 3;
    if (pixels.length !== bytes) {
      refuse(`Cannot use a tile of ${pixels.length} bytes: ${bytes} are needed`);
    }
    free = start + tokens;
  }
}
