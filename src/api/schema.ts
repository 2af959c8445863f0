/**
 * Request bodies of the API as zod schemas, in OpenAI's spelling: types, ranges and texts for the
 * OpenAPI document. Unknown fields are ignored; `null` counts as absent. What the fields mean
 * inside is `request_fields.ts`.
 */
import * as z from "zod";
import { limits } from "@/limits.ts";

const text = z.string().max(limits.promptCharsMax);
const count = z.int().min(1);
const tokenId = z.int().min(0);

const textPartSchema = z.object({ type: z.literal("text"), text });

const imagePartSchema = z.object({
  type: z.literal("image_url"),
  image_url: z.union([
    z.string(),
    z.object({
      url: z.string().describe("A data: URL, or an http(s) URL of an allowed host"),
      detail: z.enum(["auto", "low", "high"]).nullish().describe("low = a single tile"),
    }),
  ]),
});

const videoPartSchema = z.object({
  type: z.literal("video"),
  video: z.array(z.string()).min(1).max(limits.framesPerRequestMax)
    .describe("URLs of the frames, in order; one tile each"),
});

const videoFilePartSchema = z.object({
  type: z.literal("video_url"),
  video_url: z.union([z.string(), z.object({ url: z.string() })])
    .describe("One file; frames are sampled uniformly, one tile each"),
});

const userPartSchema = z.discriminatedUnion("type", [
  textPartSchema,
  imagePartSchema,
  videoPartSchema,
  videoFilePartSchema,
]);

const textPartsSchema = z.array(z.discriminatedUnion("type", [textPartSchema]));
const textContentSchema = z.union([text, textPartsSchema]);
const userContentSchema = z.union([text, z.array(userPartSchema)]);

const messageSchema = z.discriminatedUnion("role", [
  z.object({ role: z.literal(["system", "developer"]), content: textContentSchema }),
  z.object({ role: z.literal("user"), content: userContentSchema }),
  z.object({ role: z.literal("assistant"), content: textContentSchema.nullish() }),
]);

const messagesSchema = z.array(messageSchema).min(1).max(limits.messagesMax);
const modelSchema = z.string().nullish().describe("Absent = the server's default model");

const stopSchema = z.string().min(1).max(limits.stopStringCharsMax);

/** Sampling and output, alike for chats and raw completions. */
const generationFields = {
  model: modelSchema,
  temperature: z.number().min(0).max(2).nullish().describe("0 (the default) = greedy"),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.int().min(0).nullish().describe("0 = off"),
  min_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repetition_penalty: z.number().gt(0).nullish().describe("1 = off"),
  logit_bias: z.record(z.string().regex(/^\d{1,9}$/), z.number().min(-100).max(100)).nullish()
    .describe("Token id -> number added to its logit"),
  seed: z.int().nullish().describe("Same seed, same tokens, in any batch"),
  stop: z.union([stopSchema, z.array(stopSchema).max(limits.stopStringsMax)]).nullish(),
  stop_token_ids: z.array(tokenId).max(limits.stopTokenIdsMax).nullish(),
  min_tokens: z.int().min(0).nullish(),
  ignore_eos: z.boolean().nullish().describe("Go on after the model's end token"),
  skip_special_tokens: z.boolean().nullish().describe("Default true"),
  speculation: z.boolean().nullish().describe("false = no drafted tokens; the answer is the same"),
  n: count.max(limits.choicesMax).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  return_token_ids: z.boolean().nullish().describe("Adds token_ids to each choice"),
  return_progress: z.boolean().nullish().describe("Streams prefill progress"),
};

const conversationFields = {
  messages: messagesSchema,
  thinking: z.union([
    z.boolean(),
    z.enum(["on", "off"]),
    z.int().min(0),
    z.object({
      type: z.enum(["enabled", "disabled"]).nullish(),
      budget: count.nullish(),
      budget_tokens: count.nullish(),
    }),
  ]).nullish().describe("Chain of thought: on, off (the default), or a budget in tokens"),
  reasoning_effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh"]).nullish()
    .describe("none and minimal = thinking off; `thinking` takes precedence"),
  max_tiles: count.max(limits.tilesPerImageMax).nullish().describe("Tiles per picture"),
};

export const chatCompletionSchema = z.object({
  ...generationFields,
  ...conversationFields,
  max_tokens: count.nullish(),
  max_completion_tokens: count.nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(limits.topLogprobsMax).nullish(),
  response_format: z.object({ type: z.literal("text") }).nullish(),
  tools: z.array(z.unknown()).max(0).nullish().describe("Not supported"),
}).refine((body) => body.logprobs === true || !body.top_logprobs, {
  path: ["top_logprobs"],
  message: "needs logprobs to be true",
}).meta({ id: "ChatCompletionRequest" });

export const completionSchema = z.object({
  ...generationFields,
  prompt: z.union([
    text,
    z.array(text).min(1).max(limits.promptsPerRequestMax),
    z.array(tokenId).min(1),
    z.array(z.array(tokenId).min(1)).min(1).max(limits.promptsPerRequestMax),
  ]).describe("A text, texts, token ids, or lists of token ids; special tokens match in texts"),
  max_tokens: z.int().min(0).nullish().describe("0 only with echo"),
  logprobs: z.int().min(0).max(limits.topLogprobsMax).nullish(),
  echo: z.boolean().nullish(),
}).refine((body) => body.max_tokens !== 0 || body.echo === true, {
  path: ["max_tokens"],
  message: "must be at least 1 without echo, got 0",
}).meta({ id: "CompletionRequest" });

export const tokenizeSchema = z.object({
  model: modelSchema,
  prompt: text.nullish().describe("Special-token strings match"),
  ...conversationFields,
  messages: messagesSchema.nullish().describe("A conversation instead of a prompt"),
  add_special_tokens: z.boolean().nullish().describe("No effect: this family adds none"),
}).refine((body) => (body.prompt ?? undefined) === undefined !== !body.messages, {
  path: ["prompt"],
  message: "is required, or messages, but not both",
}).meta({ id: "TokenizeRequest" });

export const detokenizeSchema = z.object({
  model: modelSchema,
  tokens: z.array(tokenId),
}).meta({ id: "DetokenizeRequest" });

export const renderSchema = z.object({ model: modelSchema, ...conversationFields })
  .meta({ id: "RenderRequest" });

export const drainSchema = z.object({
  node: z.string().min(1).max(64).describe("Name of a connected shard"),
  draining: z.boolean().nullish().describe("false = take experts again (default true)"),
}).meta({ id: "ClusterDrainRequest" });

export type ChatCompletionBody = z.infer<typeof chatCompletionSchema>;
export type CompletionBody = z.infer<typeof completionSchema>;
export type GenerationBody = Pick<ChatCompletionBody, keyof typeof generationFields>;
export type ConversationBody = Pick<ChatCompletionBody, keyof typeof conversationFields>;
export type MessageBody = z.infer<typeof messageSchema>;
export type UserPartBody = z.infer<typeof userPartSchema>;
