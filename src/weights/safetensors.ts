/** The safetensors container: header parsing with every check, no tensor data. */
import { elementCount, type FileDType, fileDTypeBytes } from "@/tensor/dtype.ts";
import { limits } from "@/limits.ts";
import type { ByteSource } from "./source.ts";

/** Where one tensor lies in a file. */
export interface StoredTensor {
  readonly name: string;
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  readonly source: ByteSource;
  /** Absolute offset in the file. */
  readonly offset: number;
  readonly sizeBytes: number;
}

/** The header was read; `problems` names everything wrong with it (tensors listed are sound). */
export interface SafetensorsFile {
  readonly tensors: StoredTensor[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly problems: string[];
}

/** Reads and checks a header. Never throws for bad content: problems are returned as sentences. */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsFile> {
  const bad = (problem: string): SafetensorsFile => ({
    tensors: [],
    metadata: {},
    problems: [`${source.name}: ${problem}`],
  });
  if (source.sizeBytes < 8) return bad(`too short for a header (${source.sizeBytes} bytes)`);
  const prefix = await source.read(0, 8);
  const headerBytes = Number(new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true));
  if (headerBytes > limits.safetensorsHeaderBytesMax) {
    return bad(`header of ${headerBytes} bytes exceeds ${limits.safetensorsHeaderBytesMax}`);
  }
  if (8 + headerBytes > source.sizeBytes) {
    return bad(`truncated: header needs ${8 + headerBytes} bytes, file has ${source.sizeBytes}`);
  }
  let header: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true })
      .decode(await source.read(8, headerBytes));
    header = JSON.parse(text);
  } catch (error) {
    return bad(`header is not JSON (${error instanceof Error ? error.message : String(error)})`);
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    return bad("header is not a JSON object");
  }
  return readEntries(source, header as Record<string, unknown>, 8 + headerBytes);
}

function readEntries(
  source: ByteSource,
  header: Record<string, unknown>,
  dataStart: number,
): SafetensorsFile {
  const tensors: StoredTensor[] = [];
  const problems: string[] = [];
  let metadata: Record<string, string> = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") {
      if (typeof entry === "object" && entry !== null) metadata = entry as Record<string, string>;
      continue;
    }
    const tensor = readEntry(source, name, entry, dataStart);
    if (typeof tensor === "string") problems.push(`${source.name}: tensor ${name}: ${tensor}`);
    else tensors.push(tensor);
  }
  const sorted = tensors.filter((tensor) => tensor.sizeBytes > 0).sort((a, b) =>
    a.offset - b.offset
  );
  for (let i = 1; i < sorted.length; i++) {
    const [before, after] = [sorted[i - 1]!, sorted[i]!];
    if (before.offset + before.sizeBytes > after.offset) {
      problems.push(`${source.name}: tensors ${before.name} and ${after.name} overlap`);
    }
  }
  return { tensors, metadata, problems };
}

function isSize(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function readEntry(
  source: ByteSource,
  name: string,
  entry: unknown,
  dataStart: number,
): StoredTensor | string {
  if (typeof entry !== "object" || entry === null) return "entry is not an object";
  const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  if (typeof dtype !== "string" || !Object.hasOwn(fileDTypeBytes, dtype)) {
    return `dtype ${JSON.stringify(dtype)} is not one of ${Object.keys(fileDTypeBytes).join(", ")}`;
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) return "shape is not a list of sizes";
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return "data_offsets is not a pair of sizes";
  }
  const [begin, end] = offsets as [number, number];
  const sizeBytes = elementCount(shape) * fileDTypeBytes[dtype as FileDType];
  if (end - begin !== sizeBytes) {
    return `${dtype} [${shape}] needs ${sizeBytes} bytes, data_offsets give ${end - begin}`;
  }
  if (dataStart + end > source.sizeBytes) {
    return `truncated: ends at byte ${dataStart + end}, file has ${source.sizeBytes}`;
  }
  return {
    name,
    dtype: dtype as FileDType,
    shape,
    source,
    offset: dataStart + begin,
    sizeBytes,
  };
}
