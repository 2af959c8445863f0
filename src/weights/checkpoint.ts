/**
 * A checkpoint folder in Hugging Face layout: JSON files and all tensors of its safetensors parts
 * under canonical names. Reads headers only; tensor bytes are streamed on request.
 */
import { OperatingError } from "@/errors.ts";
import { elementCount } from "@/tensor/dtype.ts";
import { canonicalName, type TensorName } from "./names.ts";
import { readSafetensorsHeader, type StoredTensor } from "./safetensors.ts";
import { type ByteSource, type FileFolder, namesIn, readText } from "./source.ts";

const INDEX = "model.safetensors.index.json";
/** Problems of one kind listed in a message before "and n more". */
const LISTED_MAX = 12;

/** Everything wrong with a folder, by kind; one error tells it all. */
export class CheckpointProblems {
  readonly #kinds = new Map<string, string[]>();

  add(kind: string, problem: string): void {
    const list = this.#kinds.get(kind) ?? [];
    list.push(problem);
    this.#kinds.set(kind, list);
  }

  get empty(): boolean {
    return this.#kinds.size === 0;
  }

  /** Throws OperatingError("checkpoint_invalid") when anything was added. */
  throwIfAny(label: string): void {
    if (this.empty) return;
    const parts = [...this.#kinds].map(([kind, list]) => {
      const rest = list.length > LISTED_MAX ? [`… and ${list.length - LISTED_MAX} more`] : [];
      return `${kind} (${list.length}):\n  ${[...list.slice(0, LISTED_MAX), ...rest].join("\n  ")}`;
    });
    throw new OperatingError(
      "checkpoint_invalid",
      `Cannot load checkpoint ${label}:\n${parts.join("\n")}`,
    );
  }
}

export class Checkpoint {
  readonly label: string;
  readonly tensors: ReadonlyMap<TensorName, StoredTensor>;
  /** What is wrong so far; the loader adds missing and mis-shaped tensors and then throws all. */
  readonly problems: CheckpointProblems;
  readonly #folder: FileFolder;
  readonly #sources: ByteSource[];

  private constructor(
    folder: FileFolder,
    tensors: Map<TensorName, StoredTensor>,
    sources: ByteSource[],
    problems: CheckpointProblems,
  ) {
    this.problems = problems;
    this.label = folder.label;
    this.#folder = folder;
    this.tensors = tensors;
    this.#sources = sources;
  }

  /** Reads all headers of a folder. Bad files and names are collected in `problems`. */
  static async open(folder: FileFolder): Promise<Checkpoint> {
    const problems = new CheckpointProblems();
    const names = await namesIn(folder);
    const sources: ByteSource[] = [];
    const stored = new Map<string, StoredTensor>();
    try {
      for (const name of await partNames(folder, names, problems)) {
        const source = await folder.open(name);
        sources.push(source);
        const file = await readSafetensorsHeader(source);
        for (const problem of file.problems) problems.add("bad safetensors files", problem);
        for (const tensor of file.tensors) {
          if (stored.has(tensor.name)) problems.add("tensors stored twice", tensor.name);
          stored.set(tensor.name, tensor);
        }
      }
      await checkIndex(folder, names, stored, problems);
      const tensors = canonicalTensors(stored, problems);
      return new Checkpoint(folder, tensors, sources, problems);
    } catch (error) {
      for (const source of sources) source.close();
      throw error;
    }
  }

  /** A folder with configuration files only, and tensors from elsewhere (synthetic weights). */
  static withTensors(folder: FileFolder, tensors: Iterable<StoredTensor>): Checkpoint {
    const byName = new Map([...tensors].map((tensor) => [tensor.name, tensor]));
    return new Checkpoint(folder, byName, [], new CheckpointProblems());
  }

  /** Bytes of all tensors as stored. */
  get weightBytes(): number {
    return this.tensors.values().reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  }

  get parameterCount(): number {
    return this.tensors.values().reduce((sum, { shape }) => sum + elementCount(shape), 0);
  }

  /** A JSON file of the folder; undefined when absent. */
  async json(name: string): Promise<unknown> {
    const text = await this.text(name);
    return text === undefined ? undefined : parseJson(name, text);
  }

  /** A text file of the folder; undefined when absent. */
  async text(name: string): Promise<string | undefined> {
    return await readText(this.#folder, name);
  }

  /** `length` bytes of a tensor from `offset` on. */
  async read(tensor: StoredTensor, offset: number, length: number): Promise<Uint8Array> {
    return await tensor.source.read(tensor.offset + offset, length);
  }

  close(): void {
    for (const source of this.#sources) source.close();
  }
}

function parseJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new OperatingError("checkpoint_invalid", `Cannot parse ${name}: ${why}`, { cause });
  }
}

async function readIndex(folder: FileFolder): Promise<Record<string, string> | undefined> {
  const text = await readText(folder, INDEX);
  if (text === undefined) return undefined;
  const map = (parseJson(INDEX, text) as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null) {
    throw new OperatingError("checkpoint_invalid", `Cannot use ${INDEX}: it has no weight_map`);
  }
  return map as Record<string, string>;
}

async function partNames(
  folder: FileFolder,
  names: string[],
  problems: CheckpointProblems,
): Promise<string[]> {
  const map = await readIndex(folder);
  const parts = map
    ? [...new Set(Object.values(map))].sort()
    : names.filter((name) => name.endsWith(".safetensors")).sort();
  if (parts.length === 0) problems.add("missing files", "no *.safetensors file");
  for (const part of parts) {
    if (!names.includes(part)) problems.add("missing files", `${part} (named in ${INDEX})`);
  }
  return parts.filter((part) => names.includes(part));
}

async function checkIndex(
  folder: FileFolder,
  names: string[],
  stored: ReadonlyMap<string, StoredTensor>,
  problems: CheckpointProblems,
): Promise<void> {
  const map = await readIndex(folder);
  for (const [name, part] of Object.entries(map ?? {})) {
    if (names.includes(part) && !stored.has(name)) {
      problems.add("tensors named in the index but not in their file", `${name} in ${part}`);
    }
  }
}

function canonicalTensors(
  stored: ReadonlyMap<string, StoredTensor>,
  problems: CheckpointProblems,
): Map<TensorName, StoredTensor> {
  const tensors = new Map<TensorName, StoredTensor>();
  for (const tensor of stored.values()) {
    const name = canonicalName(tensor.name);
    if (name === undefined) {
      // Rotary buffers of old exports are recomputed, never read.
      if (!tensor.name.endsWith("rotary_emb.inv_freq")) {
        problems.add("unexpected tensors", `${tensor.name} ${tensor.dtype} [${tensor.shape}]`);
      }
    } else if (tensors.has(name)) {
      const other = tensors.get(name)!.name;
      problems.add("two names for one tensor", `${other} and ${tensor.name}`);
    } else {
      tensors.set(name, tensor);
    }
  }
  return tensors;
}
