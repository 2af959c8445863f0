/**
 * The list of a model's files, `files.json`, that a server gives to pages: its form, and reading it.
 */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";

/** Name of the list among the files. */
export const FILE_LIST = "files.json";

export interface ListedFile {
  /** Without folders. */
  readonly name: string;
  readonly bytes: number;
  /** Of the content, in hexadecimal. */
  readonly sha256: string;
}

export interface FileList {
  /** What the model is called where the list comes from. */
  readonly model: string;
  readonly files: readonly ListedFile[];
}

/** Throws OperatingError("checkpoint_invalid") for anything that is not such a list. */
export function parseFileList(text: string, label: string): FileList {
  const bad = (problem: string, cause?: unknown) =>
    new OperatingError("checkpoint_invalid", `Cannot use ${label}: ${problem}`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw bad("it is not JSON", cause);
  }
  const { model, files } = (value ?? {}) as { model?: unknown; files?: unknown };
  if (typeof model !== "string" || model === "") throw bad("it names no model");
  if (!Array.isArray(files) || files.length === 0) throw bad("it lists no files");
  if (files.length > limits.modelFilesMax) {
    throw bad(`${files.length} files exceed ${limits.modelFilesMax}`);
  }
  const names = new Set<string>();
  for (const file of files as Partial<ListedFile>[]) {
    if (!isListedFile(file)) throw bad("a file lacks its name, size or hash");
    if (names.has(file.name)) throw bad(`it lists ${file.name} twice`);
    names.add(file.name);
  }
  return { model, files: files as ListedFile[] };
}

function isListedFile(file: Partial<ListedFile> | null): file is ListedFile {
  return typeof file === "object" && file !== null &&
    typeof file.name === "string" && /^[^/\\]+$/.test(file.name) && !/^\.+$/.test(file.name) &&
    Number.isSafeInteger(file.bytes) && file.bytes! >= 0 &&
    typeof file.sha256 === "string" && /^[0-9a-f]{64}$/.test(file.sha256);
}
