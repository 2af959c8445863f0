/** From a checkpoint or packed folder to a model on a backend. */
import { OperatingError } from "@/errors.ts";
import type { Backend } from "@/kernels/backend.ts";
import { type FileHash, PackedFolder } from "@/weights/packed_folder.ts";
import { type Precision, precisionLabel, precisionOf, samePrecision } from "@/weights/precision.ts";
import type { FileFolder } from "@/weights/source.ts";
import type { ModelConfig } from "./config.ts";
import type { ExpertExecutor } from "./experts.ts";
import type { HostPlacement } from "./host_layers.ts";
import { isPacked, openCheckpoint, readConfig } from "./open_checkpoint.ts";
import { packedSize } from "./packed_parameters.ts";
import type { LoadProgress } from "./parameter_source.ts";
import { loadPackedParameters, loadParameters, type Parameters } from "./parameters.ts";
import { type ModelBounds, VisionLanguageModel } from "./vlm.ts";

/** What is not said of the precision is as in `precisionOf`, or as the folder was packed. */
export interface LoadOptions extends Partial<Precision> {
  readonly folder: FileFolder;
  readonly backend: Backend;
  readonly bounds?: Partial<ModelBounds>;
  /** Draw weights from a seed instead of reading them; the folder needs config.json only. */
  readonly synthetic?: boolean;
  /** Compare the hashes of a packed folder's files, as this gives them, before anything is loaded. */
  readonly verify?: FileHash | undefined;
  /** Computes the experts; their weights are then not loaded. */
  readonly experts?: ExpertExecutor;
  /** Parts that another backend holds and computes. */
  readonly host?: HostPlacement | undefined;
  readonly onProgress?: LoadProgress;
}

export interface LoadedModel {
  readonly model: VisionLanguageModel;
  readonly config: ModelConfig;
  /** Bytes of all weights as stored. */
  readonly weightBytes: number;
  readonly parameterCount: number;
  readonly precision: Precision;
}

type LoadedParameters = Omit<LoadedModel, "model"> & { readonly parameters: Parameters };

/** Reads configuration and weights; throws OperatingError("checkpoint_invalid") listing all faults. */
export async function loadModel(options: LoadOptions): Promise<LoadedModel> {
  const { backend, bounds, experts, host } = options;
  const { parameters, ...loaded } = await isPacked(options)
    ? await loadPacked(options)
    : await loadCheckpoint(options);
  const model = new VisionLanguageModel({
    backend,
    config: loaded.config,
    parameters,
    ...(experts && { experts }),
    ...(host && { host }),
    ...(bounds && { bounds }),
  });
  return { model, ...loaded };
}

async function loadCheckpoint(options: LoadOptions): Promise<LoadedParameters> {
  const { backend, host, onProgress } = options;
  const precision = precisionOf(options);
  const { checkpoint, config } = await openCheckpoint(options);
  try {
    const parameters = await loadParameters({
      checkpoint,
      config,
      backend,
      precision,
      withoutExperts: options.experts !== undefined,
      host,
      ...(onProgress && { onProgress }),
    });
    const { weightBytes, parameterCount } = checkpoint;
    return { parameters, config, weightBytes, parameterCount, precision };
  } finally {
    checkpoint.close();
  }
}

async function loadPacked(options: LoadOptions): Promise<LoadedParameters> {
  const { folder, backend, host, verify, onProgress } = options;
  const config = await readConfig(folder);
  const packed = await PackedFolder.open(folder);
  try {
    const { precision, parameters: parameterCount } = packed.manifest;
    expectPrecision(options, precision);
    if (verify) await packed.verify(verify, onProgress);
    const parameters = await loadPackedParameters({
      packed,
      config,
      backend,
      withoutExperts: options.experts !== undefined,
      host,
      ...(onProgress && { onProgress }),
    });
    return { parameters, config, weightBytes: packedSize(packed), parameterCount, precision };
  } finally {
    packed.close();
  }
}

/** Packed weights have the precision that they were packed with; wishes for another are refused. */
function expectPrecision(options: LoadOptions, packed: Precision): void {
  const { quantisation, preset, vision } = options;
  const wished = precisionOf({
    quantisation: quantisation ?? packed.quantisation,
    preset: preset ?? packed.preset,
    vision: vision ?? packed.vision,
  });
  if (samePrecision(wished, packed)) return;
  throw new OperatingError(
    "checkpoint_invalid",
    `Cannot load ${options.folder.label} as ${precisionLabel(wished)}: ` +
      `it is packed as ${precisionLabel(packed)}`,
  );
}
