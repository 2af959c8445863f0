/** `POST /tokenize` and `POST /detokenize`: text or conversations to token ids and back. */
import { prepareChat } from "@/chat/chat.ts";
import { OperatingError } from "@/errors.ts";
import type { AppContext } from "./exchange.ts";
import { readConversation } from "./request_fields.ts";
import { detokenizeSchema, tokenizeSchema } from "./schema.ts";
import type { Services } from "./services.ts";
import { parseBody } from "./validation.ts";

export async function handleTokenize(context: AppContext, services: Services): Promise<Response> {
  const { signal } = context.get("exchange");
  const body = parseBody(tokenizeSchema, await context.var.exchange.readBody());
  const model = services.findModel(body.model);
  const { messages } = body;
  const tokens = messages === null || messages === undefined
    ? model.tokenizer.encode(body.prompt ?? "", { specialTokens: "all" })
    : (await prepareChat(readConversation({ ...body, messages }), {
      model,
      desk: services.desk,
      signal,
    })).ids;
  return Response.json({ tokens, count: tokens.length, context_length: model.contextTokens });
}

export async function handleDetokenize(
  context: AppContext,
  services: Services,
): Promise<Response> {
  const body = parseBody(detokenizeSchema, await context.var.exchange.readBody());
  const { tokenizer } = services.findModel(body.model);
  for (const [index, id] of body.tokens.entries()) {
    if (id < tokenizer.size) continue;
    const field = `tokens[${index}]`;
    const message = `Invalid ${field}: token id ${id} is outside the vocabulary of ` +
      `${tokenizer.size}`;
    throw new OperatingError("invalid_request", message, { field });
  }
  return Response.json({ prompt: tokenizer.decode(body.tokens) });
}
