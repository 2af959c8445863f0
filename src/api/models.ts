/** `GET /v1/models` and `GET /v1/models/{id}`: which models are served and what they can do. */
import type { ServedModel } from "@/chat/served_model.ts";
import type { AppContext } from "./exchange.ts";
import { modelFilesPath } from "./model_files.ts";
import type { Services } from "./services.ts";

export function handleModels(_context: AppContext, services: Services): Response {
  const data = [...services.models.values()].map((model) => describeModel(model, services));
  return Response.json({ object: "list", data });
}

export function handleModel(context: AppContext, services: Services): Response {
  return Response.json(describeModel(services.findModel(context.req.param("id")), services));
}

function describeModel(model: ServedModel, { offers }: Services) {
  const { facts } = model;
  return {
    id: model.id,
    object: "model",
    created: model.createdEpochSeconds,
    owned_by: "flotilla",
    status: "loaded",
    context_length: model.contextTokens,
    modalities: { input: ["text", "image", "video"], output: ["text"] },
    capabilities: { vision: true, thinking: model.thinking, logprobs: true, tools: false },
    image: {
      tile_size: model.tileSize,
      tokens_per_tile: model.tokensPerTile,
      max_tiles: model.tilesMax,
      thumbnail: model.thumbnail,
      msac: model.msac,
    },
    vocabulary_size: model.tokenizer.size,
    architecture: facts.architecture ?? null,
    parameters: facts.parameterCount ?? null,
    quantization: facts.quantization ?? null,
    backend: facts.backend ?? null,
    numeric_class: model.numericClass,
    files: offers.has(model.id) ? modelFilesPath(model.id) : null,
  };
}
