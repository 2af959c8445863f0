/** The configuration of a folder and its tensors, stored or drawn from a seed. */
import { OperatingError } from "@/errors.ts";
import { Checkpoint } from "@/weights/checkpoint.ts";
import { folderKind } from "@/weights/packed_folder.ts";
import { type FileFolder, namesIn } from "@/weights/source.ts";
import { syntheticTensor } from "@/weights/synthetic.ts";
import { type ModelConfig, readModelConfig } from "./config.ts";
import { impliedTensors } from "./parameters.ts";

/** Where a model comes from. */
export interface ModelSource {
  readonly folder: FileFolder;
  /** Draw weights from a seed instead of reading them; the folder needs config.json only. */
  readonly synthetic?: boolean;
}

export async function readConfig(folder: FileFolder): Promise<ModelConfig> {
  const files = Checkpoint.withTensors(folder, []);
  return readModelConfig({
    config: await files.json("config.json"),
    preprocessor: await files.json("preprocessor_config.json"),
    generation: await files.json("generation_config.json"),
  });
}

/** Whether weights come packed; throws OperatingError("checkpoint_invalid") when they do in part. */
export async function isPacked(source: ModelSource): Promise<boolean> {
  const { folder, synthetic } = source;
  const kind = synthetic ? "checkpoint" : folderKind(await namesIn(folder));
  if (kind !== "unfinished") return kind === "packed";
  throw new OperatingError(
    "checkpoint_invalid",
    `Cannot load ${folder.label}: its packing was interrupted; run the same quantize again`,
  );
}

/** Reads configuration and headers; the caller closes the checkpoint. */
export async function openCheckpoint(
  source: ModelSource,
): Promise<{ readonly config: ModelConfig; readonly checkpoint: Checkpoint }> {
  const { folder, synthetic } = source;
  const config = await readConfig(folder);
  if (!synthetic) return { config, checkpoint: await Checkpoint.open(folder) };
  const tensors = [...await impliedTensors(config)].map(([name, shape]) =>
    syntheticTensor(name, shape)
  );
  return { config, checkpoint: Checkpoint.withTensors(folder, tensors) };
}
