/** `POST /render`: the prompt a conversation becomes, with its pictures' places; no inference. */
import { prepareChat } from "@/chat/chat.ts";
import type { AppContext } from "./exchange.ts";
import { readConversation } from "./request_fields.ts";
import { renderSchema } from "./schema.ts";
import type { Services } from "./services.ts";
import { parseBody } from "./validation.ts";

export async function handleRender(context: AppContext, services: Services): Promise<Response> {
  const { signal } = context.get("exchange");
  const body = parseBody(renderSchema, await context.var.exchange.readBody());
  const model = services.findModel(body.model);
  const { ids, pictures } = await prepareChat(readConversation(body), {
    model,
    desk: services.desk,
    signal,
  });
  const images = pictures.map(({ reference, image, spans }) => ({
    field: reference.field,
    kind: reference.kind,
    width: image.sourceWidth,
    height: image.sourceHeight,
    grid: { columns: image.grid.columns, rows: image.grid.rows },
    tiles: image.tileCount,
    spans,
    hashes: image.tileHashes,
  }));
  const tileCount = images.reduce((total, image) => total + image.tiles, 0);
  const visualTokens = images.flatMap((image) => image.spans)
    .reduce((total, span) => total + span.count, 0);
  return Response.json({
    model: model.id,
    prompt: model.tokenizer.decode(ids),
    tokens: ids,
    count: ids.length,
    image_tokens: visualTokens,
    tiles: tileCount,
    images,
    context_length: model.contextTokens,
  });
}
