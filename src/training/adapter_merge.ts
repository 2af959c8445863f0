/** Adds low-rank additions from a folder into a model's weights and writes the result as a model. */
import { basename } from "node:path";
import { OperatingError } from "@/errors.ts";
import { Checkpoint } from "@/weights/checkpoint.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { releasedName, type TensorName } from "@/weights/names.ts";
import { readAdapter, type StoredAdapter } from "./adapter_files.ts";
import { addProduct } from "./low_rank.ts";
import { readFloats, writeModelFolder } from "./model_folder.ts";
import { originOf } from "./run_lineage.ts";

export interface MergeOptions {
  /** The model that the additions were learnt on. */
  readonly model: string;
  readonly adapter: string;
  /** Folder to write; must not exist. */
  readonly out: string;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Throws OperatingError when an addition fits no matrix; returns how many matrices changed. */
export async function mergeIntoModel(options: MergeOptions): Promise<number> {
  const { model, adapter, out, onProgress } = options;
  const stored = await readAdapter(adapter);
  const checkpoint = await Checkpoint.open(diskFolder(model));
  try {
    checkpoint.problems.throwIfAny(model);
    checkFit(checkpoint, stored, adapter);
    const name = basename(adapter);
    const { ancestors } = await originOf(model, { recipe: name, seed: 0 });
    const valuesOf = async (name: TensorName) => {
      const values = await readFloats(checkpoint, checkpoint.tensors.get(name)!);
      const pair = stored.pairs.get(name);
      if (pair) addProduct(values, { ...pair, scale: stored.scale });
      return values;
    };
    await writeModelFolder({
      from: { folder: model, checkpoint },
      out,
      valuesOf,
      lineage: { ancestors, merge: { adapter: name } },
      ...onProgress && { onProgress },
    });
    return stored.pairs.size;
  } finally {
    checkpoint.close();
  }
}

function checkFit({ tensors }: Checkpoint, { pairs }: StoredAdapter, adapter: string): void {
  for (const [name, { down, up, rank }] of pairs) {
    const tensor = tensors.get(name);
    const shape = [up.length / rank, down.length / rank];
    if (tensor && `${tensor.shape}` === `${shape}`) continue;
    const found = tensor ? `is [${tensor.shape}]` : "is missing";
    throw new OperatingError(
      "checkpoint_invalid",
      `Cannot merge ${adapter}: ${releasedName(name)} ${found}, expected [${shape}]`,
    );
  }
}
