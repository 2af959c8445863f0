/** The configuration of a folder and its tensors, stored or drawn from a seed. */
import { Checkpoint } from "@/weights/checkpoint.ts";
import type { FileFolder } from "@/weights/source.ts";
import { syntheticTensor } from "@/weights/synthetic.ts";
import { type ModelConfig, readModelConfig } from "./config.ts";
import { impliedTensors } from "./parameters.ts";

export async function readConfig(folder: FileFolder): Promise<ModelConfig> {
  const files = Checkpoint.withTensors(folder, []);
  return readModelConfig({
    config: await files.json("config.json"),
    preprocessor: await files.json("preprocessor_config.json"),
    generation: await files.json("generation_config.json"),
  });
}

/** Reads configuration and headers; the caller closes the checkpoint. */
export async function openCheckpoint(source: {
  readonly folder: FileFolder;
  /** Draw weights from a seed instead of reading them; the folder needs config.json only. */
  readonly synthetic?: boolean;
}): Promise<{ readonly config: ModelConfig; readonly checkpoint: Checkpoint }> {
  const { folder, synthetic } = source;
  const config = await readConfig(folder);
  if (!synthetic) return { config, checkpoint: await Checkpoint.open(folder) };
  const tensors = [...await impliedTensors(config)].map(([name, shape]) =>
    syntheticTensor(name, shape)
  );
  return { config, checkpoint: Checkpoint.withTensors(folder, tensors) };
}
