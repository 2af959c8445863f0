/** From a checkpoint folder to a model on a backend. */
import type { Backend } from "@/kernels/backend.ts";
import { Checkpoint } from "@/weights/checkpoint.ts";
import type { FileFolder } from "@/weights/source.ts";
import { syntheticTensor } from "@/weights/synthetic.ts";
import { type ModelConfig, readModelConfig } from "./config.ts";
import type { LoadProgress, Quantisation } from "./parameter_source.ts";
import { impliedTensors, loadParameters } from "./parameters.ts";
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
  /** Draw weights from a seed instead of reading them; the folder needs config.json only. */
  synthetic?: boolean;
  onProgress?: LoadProgress;
}): Promise<LoadedModel> {
  const files = Checkpoint.withTensors(args.folder, []);
  const config = readModelConfig({
    config: await files.json("config.json"),
    preprocessor: await files.json("preprocessor_config.json"),
    generation: await files.json("generation_config.json"),
  });
  const checkpoint = args.synthetic
    ? Checkpoint.withTensors(
      args.folder,
      [...await impliedTensors(config)].map(([name, shape]) => syntheticTensor(name, shape)),
    )
    : await Checkpoint.open(args.folder);
  try {
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
