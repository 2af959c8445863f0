/** From a checkpoint folder to a model on a backend. */
import type { Backend } from "@/kernels/backend.ts";
import { Checkpoint } from "@/weights/checkpoint.ts";
import type { FileFolder } from "@/weights/source.ts";
import { type ModelConfig, readModelConfig } from "./config.ts";
import type { LoadProgress, Quantisation } from "./parameter_source.ts";
import { loadParameters } from "./parameters.ts";
import { type ModelBounds, VisionLanguageModel } from "./vlm.ts";

export interface LoadedModel {
  readonly model: VisionLanguageModel;
  readonly config: ModelConfig;
  /** Bytes of all weights as stored. */
  readonly weightBytes: number;
  readonly parameterCount: number;
}

/** Reads configuration and weights; throws OperatingError("checkpoint_invalid") listing all faults. */
export async function loadModel(args: {
  folder: FileFolder;
  backend: Backend;
  quantisation: Quantisation;
  bounds?: Partial<ModelBounds>;
  onProgress?: LoadProgress;
}): Promise<LoadedModel> {
  const checkpoint = await Checkpoint.open(args.folder);
  try {
    const config = readModelConfig({
      config: await checkpoint.json("config.json"),
      preprocessor: await checkpoint.json("preprocessor_config.json"),
      generation: await checkpoint.json("generation_config.json"),
    });
    const { backend, quantisation, onProgress, bounds } = args;
    const parameters = await loadParameters({
      checkpoint,
      config,
      backend,
      quantisation,
      ...(onProgress && { onProgress }),
    });
    let [weightBytes, parameterCount] = [0, 0];
    for (const tensor of checkpoint.tensors.values()) {
      weightBytes += tensor.sizeBytes;
      parameterCount += tensor.shape.reduce((product, size) => product * size, 1);
    }
    const model = new VisionLanguageModel({
      backend,
      config,
      parameters,
      ...(bounds && { bounds }),
    });
    return { model, config, weightBytes, parameterCount };
  } finally {
    checkpoint.close();
  }
}
