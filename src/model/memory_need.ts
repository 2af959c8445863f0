/**
 * How much memory a model's weights and scratch take on a backend, found from headers alone: no
 * backend is open yet, and none of the weights is read.
 */
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { PackedFolder } from "@/weights/packed_folder.ts";
import { type Precision, precisionOf } from "@/weights/precision.ts";
import type { FileFolder } from "@/weights/source.ts";
import type { ModelConfig } from "./config.ts";
import { type PartBytes, partBytes } from "./host_parts.ts";
import { isPacked, openCheckpoint, readConfig } from "./open_checkpoint.ts";
import { ExpertlessSource } from "./expertless_source.ts";
import { CheckingPackedSource, packedSize } from "./packed_parameters.ts";
import { PlanningSource } from "./packing_plan.ts";
import { checkParameters, type Parameters, walkParameters } from "./parameters.ts";
import { type ModelBounds, VisionLanguageModel } from "./vlm.ts";

export interface MemoryNeed {
  readonly config: ModelConfig;
  readonly precision: Precision;
  /** Weights in the backend's formats. */
  readonly weightBytes: number;
  /** Of these, what may be placed elsewhere than the rest. */
  readonly parts: PartBytes;
  /** A full decoder step and a full batch of tiles. */
  readonly scratchBytes: number;
}

export interface NeedOptions extends Partial<Precision> {
  readonly folder: FileFolder;
  /** Weights will be drawn from a seed; the folder needs config.json only. */
  readonly synthetic?: boolean;
  /** Experts are computed elsewhere. */
  readonly withoutExperts?: boolean;
  /** Those that size the scratch memory. */
  readonly bounds?: Partial<ModelBounds>;
}

/** Throws OperatingError("checkpoint_invalid") for whatever loading would refuse. */
export async function memoryNeed(options: NeedOptions): Promise<MemoryNeed> {
  const { parameters, ...need } = await isPacked(options)
    ? await packedNeed(options)
    : await storedNeed(options);
  const model = new VisionLanguageModel({
    backend: openReferenceBackend(), // allocates nothing: only shapes are used
    config: need.config,
    parameters,
    bounds: { ...options.bounds, contextTokens: 1 },
  });
  return { ...need, scratchBytes: await model.scratchBytes() };
}

type WeightNeed = Omit<MemoryNeed, "scratchBytes"> & { readonly parameters: Parameters };

async function storedNeed(options: NeedOptions): Promise<WeightNeed> {
  const precision = precisionOf(options);
  const { checkpoint, config } = await openCheckpoint(options);
  try {
    await checkParameters(checkpoint, config);
    const plan = new PlanningSource(checkpoint, precision, config.decoder.layers);
    const source = options.withoutExperts ? new ExpertlessSource(plan) : plan;
    const parameters = await walkParameters(config, source);
    const entries = plan.weights.map(({ entry }) => entry);
    const weightBytes = entries.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    return { config, precision, parameters, weightBytes, parts: partBytes(entries) };
  } finally {
    checkpoint.close();
  }
}

async function packedNeed({ folder, withoutExperts }: NeedOptions): Promise<WeightNeed> {
  const config = await readConfig(folder);
  const packed = await PackedFolder.open(folder);
  try {
    const parameters = await walkParameters(config, new CheckingPackedSource(packed));
    packed.problems.throwIfAny(packed.label);
    const { precision } = packed.manifest;
    const weightBytes = packedSize(packed, { withoutExperts });
    const matrices = [...packed.matrices].map(([name, { matrix, tensor }]) => {
      const isElsewhere = withoutExperts && matrix.experts > 1;
      return { name, sizeBytes: isElsewhere ? 0 : tensor.sizeBytes };
    });
    const vectors = [...packed.vectors].map(([name, { sizeBytes }]) => ({ name, sizeBytes }));
    const parts = partBytes([...matrices, ...vectors]);
    return { config, precision, parameters, weightBytes, parts };
  } finally {
    packed.close();
  }
}
