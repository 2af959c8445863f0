/**
 * Answers with the weights of a model that is being trained: the engine's parameters are those, with
 * low-rank additions added in while answers are given.
 */
import type { Clock } from "@/clock.ts";
import type { Backend } from "@/kernels/backend.ts";
import { VisionLanguageModel } from "@/model/vlm.ts";
import { type LowRankModel, withAdditions } from "../low_rank.ts";
import type { ModelText } from "../model_text.ts";
import type { TrainableModel } from "../training_source.ts";
import { Answerer, rolloutBounds, rolloutSequences } from "./answerer.ts";

/**
 * An answerer without weights of its own. Ops run in the order of recording, so an answer asked after
 * a step of the optimiser sees what the step wrote.
 */
export function answererOf(
  { backend, model, text, clock }: {
    backend: Backend;
    model: TrainableModel | LowRankModel;
    text: Pick<ModelText, "tokenizer" | "promptTokens">;
    clock: Clock;
  },
): Answerer {
  const { config, parameters } = model;
  const sequences = rolloutSequences(parameters.decoder.embedding.rows);
  const bounds = rolloutBounds(sequences);
  const served = new VisionLanguageModel({ backend, config, parameters, bounds });
  const options = { model: served, sequences, text, clock };
  if (!("pairs" in model)) return new Answerer(options);
  return new Answerer({ ...options, within: (answer) => withAdditions(backend, model, answer) });
}
