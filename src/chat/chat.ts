/**
 * A conversation -> an answer: loads the pictures, builds the prompt, asks the engine. The entry
 * point for the API and for evaluation; knows no HTTP.
 */
import type { PromptTile } from "@/engine/request.ts";
import { OperatingError } from "@/errors.ts";
import type { TiledImage } from "@/media/tiling.ts";
import { type AnswerEvent, type AnswerOptions, startAnswer } from "./answer.ts";
import { type PictureDesk, visualTokens } from "./images.ts";
import { listPictures, type Message, type PictureReference, type Thinking } from "./message.ts";
import { encodePrompt, type PictureSpan } from "./prompt.ts";
import type { ServedModel } from "./served_model.ts";
import { renderChat } from "./template.ts";

/** What a chat's prompt is made of. */
export interface Conversation {
  readonly messages: readonly Message[];
  readonly thinking: Thinking;
  /** Tiles per picture; undefined = the model's own bound. */
  readonly tilesMax: number | undefined;
}

export interface ChatRequest {
  readonly id: string;
  readonly conversation: Conversation;
  readonly options: AnswerOptions;
}

/** One file of a prompt: where it came from, its tiles and their places (a clip has several). */
export interface PromptPicture {
  readonly reference: PictureReference;
  readonly image: TiledImage;
  readonly spans: readonly PictureSpan[];
}

export interface ChatPrompt {
  readonly ids: readonly number[];
  readonly pictures: readonly PromptPicture[];
  /** Tokens of thought after which it is closed; undefined = no bound. */
  readonly thoughtTokensMax: number | undefined;
}

export interface ChatContext {
  readonly model: ServedModel;
  readonly desk: PictureDesk;
  readonly signal: AbortSignal;
}

/**
 * Loads the pictures and encodes the prompt; no inference. Throws OperatingError naming the field
 * of a picture that cannot be used.
 */
export async function prepareChat(
  { messages, thinking, tilesMax }: Conversation,
  { model, desk, signal }: ChatContext,
): Promise<ChatPrompt> {
  if (thinking.enabled && !model.thinking) {
    const message = `Cannot think: model ${model.id} was not trained for it`;
    throw new OperatingError("invalid_request", message, { field: "thinking" });
  }
  const references = listPictures(messages, tilesMax);
  const images = await desk.loadPictures(references, { model, signal });
  const { tokenizer, promptTokens, grammar } = model;
  const tokenCounts = references.map(({ kind }, index) =>
    pictureTokens(images[index]!, { kind, model })
  );
  const pieces = renderChat(messages, { grammar, thinking, tokenCounts });
  const { ids, spans } = encodePrompt(pieces, { tokenizer, promptTokens });
  const nextSpan = spans.values();
  const pictures = references.map((reference, index): PromptPicture => {
    const image = images[index]!;
    return { reference, image, spans: [...nextSpan.take(tokenCounts[index]!.length)] };
  });
  return { ids, pictures, thoughtTokensMax: thinking.budgetTokens };
}

/** Submits a prepared prompt; throws and yields as `startAnswer`. */
export function startChat(
  { id, options }: Pick<ChatRequest, "id" | "options">,
  { prompt, model, signal }: { prompt: ChatPrompt; model: ServedModel; signal: AbortSignal },
): AsyncGenerator<AnswerEvent> {
  const request = {
    id,
    promptIds: prompt.ids,
    tiles: prompt.pictures.flatMap((picture) => promptTiles(picture, model)),
    options,
    splitReasoning: true,
    thoughtTokensMax: prompt.thoughtTokensMax,
    promptLogprobs: false,
    field: "messages",
  };
  return startAnswer(request, { model, signal });
}

/** Answers a conversation: prepares and submits on the first pull, then yields the events. */
export async function* complete(
  request: ChatRequest,
  context: ChatContext,
): AsyncGenerator<AnswerEvent> {
  const prompt = await prepareChat(request.conversation, context);
  yield* startChat(request, { prompt, ...context });
}

/** Visual tokens of a file's pictures: one picture, or the frames of a clip. */
function pictureTokens(
  image: TiledImage,
  { kind, model }: { kind: PictureReference["kind"]; model: ServedModel },
): number[] {
  if (kind !== "clip") return [visualTokens(image, model)];
  return new Array<number>(image.tileCount).fill(model.tokensPerTile);
}

function promptTiles(
  { image, spans }: PromptPicture,
  { tokensPerTile }: ServedModel,
): PromptTile[] {
  if (image.whole !== undefined) {
    const { start, count } = spans[0]!;
    const picture = { ...image.whole, tokens: count };
    return [{ hash: image.tileHashes[0]!, pixels: image.tiles, start, picture }];
  }
  const tileBytes = image.tileSize * image.tileSize * 3;
  const starts = spans.flatMap(({ start, count }) =>
    Array.from({ length: count / tokensPerTile }, (_, index) => start + index * tokensPerTile)
  );
  return starts.map((start, index) => ({
    hash: image.tileHashes[index]!,
    pixels: image.tiles.subarray(index * tileBytes, (index + 1) * tileBytes),
    start,
  }));
}
