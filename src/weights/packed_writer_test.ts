import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { join } from "node:path";
import { hashOf } from "./file_hash.ts";
import { PackedFolder } from "./packed_folder.ts";
import type { PackedEntry } from "./packed_manifest.ts";
import { PackedWriter, planParts } from "./packed_writer.ts";
import { precisionOf } from "./precision.ts";
import { diskFolder } from "./disk_folder.ts";
import { memoryFolder } from "./source.ts";
import { inTemporaryFolder } from "../../tests/temporary_folder.ts";

const matrix = { format: "q4", experts: 1, rows: 16, columns: 64 } as const;
/** Two panels of two groups of 144 bytes. */
const MATRIX_BYTES = 576;
const entries: readonly PackedEntry[] = [
  { name: "a", sizeBytes: MATRIX_BYTES, matrix },
  { name: "b", sizeBytes: 40 },
  { name: "c", sizeBytes: MATRIX_BYTES, matrix },
];
const parts = planParts(entries, 700);
const facts = { layout: 1, precision: precisionOf({ quantisation: "q4" }), parameters: 2058 };
const copied = {
  folder: memoryFolder("source", new Map([["config.json", new TextEncoder().encode("{}")]])),
  names: ["config.json"],
};

/** Bytes of an entry that only its name decides, in two pieces. */
async function writeEntry(entry: PackedEntry, write: (bytes: Uint8Array) => Promise<void>) {
  const bytes = new Uint8Array(entry.sizeBytes).fill(entry.name.charCodeAt(0));
  await write(bytes.subarray(0, 16));
  await write(bytes.subarray(16));
  return entry.matrix ? 0.08 : 0;
}

async function packAll(path: string): Promise<void> {
  const writer = await PackedWriter.open(path, "same");
  for (const part of parts) if (!writer.hasPart(part)) await writer.writePart(part, writeEntry);
  await writer.finish(facts, copied);
}

async function filesOf(path: string): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const name of (await diskFolder(path).names()).sort()) {
    files.set(name, await Deno.readFile(join(path, name)));
  }
  return files;
}

Deno.test("planParts() fills files up to a size and gives larger entries their own", () => {
  deepEqual(parts.map(({ file, entries }) => [file, entries.map(({ name }) => name).join()]), [
    ["packed-00001-of-00002.safetensors", "a,b"],
    ["packed-00002-of-00002.safetensors", "c"],
  ]);
  equal(planParts(entries, 1).length, 3);
  equal(planParts([], 1).length, 0);
});

Deno.test("PackedWriter writes a folder that PackedFolder finds without fault", () =>
  inTemporaryFolder(async (path) => {
    await packAll(path);
    const packed = await PackedFolder.open(diskFolder(path));
    await packed.verify(hashOf);
    packed.problems.throwIfAny(path);
    deepEqual([...packed.matrices.keys()], ["a", "c"]);
    deepEqual([...packed.vectors.keys()], ["b"]);
    const { tensor } = packed.matrices.get("c")!;
    const bytes = await tensor.source.read(tensor.offset, tensor.sizeBytes);
    ok(bytes.every((byte) => byte === "c".charCodeAt(0)));
    equal(packed.manifest.tensors.a!.relativeError, 0.08);
    packed.close();
  }));

Deno.test("PackedWriter resumes after any part to the same bytes", () =>
  inTemporaryFolder(async (path) => {
    await packAll(join(path, "whole"));
    const whole = await filesOf(join(path, "whole"));
    const out = join(path, "resumed");
    const first = await PackedWriter.open(out, "same");
    await first.writePart(parts[0]!, writeEntry);
    const failing = first.writePart(parts[1]!, async (_, write) => {
      await write(new Uint8Array(100));
      throw new Error("power cut");
    });
    await rejects(failing, /power cut/);
    const before = await Deno.stat(join(out, parts[0]!.file));
    const second = await PackedWriter.open(out, "same");
    equal(second.hasPart(parts[0]!), true);
    equal(second.hasPart(parts[1]!), false);
    await packAll(out);
    deepEqual(await filesOf(out), whole);
    equal((await Deno.stat(join(out, parts[0]!.file))).ino, before.ino);
  }));

Deno.test("PackedWriter writes a part again whose bytes changed", () =>
  inTemporaryFolder(async (path) => {
    const first = await PackedWriter.open(path, "same");
    await first.writePart(parts[0]!, writeEntry);
    const file = join(path, parts[0]!.file);
    const bytes = await Deno.readFile(file);
    bytes[bytes.length - 1]! ^= 1;
    await Deno.writeFile(file, bytes);
    equal((await PackedWriter.open(path, "same")).hasPart(parts[0]!), false);
  }));

Deno.test("PackedWriter refuses folders of another packing", () =>
  inTemporaryFolder(async (path) => {
    const out = join(path, "out");
    await PackedWriter.open(out, "one");
    await rejects(PackedWriter.open(out, "two"), /begun with another checkpoint or other flags/);
    await Deno.remove(out, { recursive: true });
    await packAll(out);
    await rejects(PackedWriter.open(out, "same"), /holds another packed model/);
    await rejects(PackedWriter.open(path, "same"), /it is not empty/);
  }));

Deno.test("PackedFolder.open() tells all faults of a folder at once", () =>
  inTemporaryFolder(async (path) => {
    await packAll(path);
    await Deno.truncate(join(path, parts[1]!.file), 500);
    await Deno.remove(join(path, "config.json"));
    const packed = await PackedFolder.open(diskFolder(path));
    const message = await rejectionOf(() => packed.problems.throwIfAny(path));
    for (const fault of [/missing files.*\n.*config\.json/, /wrong size.*\n.*00002/, /truncated/]) {
      ok(fault.test(message), message);
    }
    packed.close();
  }));

Deno.test("PackedFolder.verify() names files whose bytes changed", () =>
  inTemporaryFolder(async (path) => {
    await packAll(path);
    const file = join(path, parts[0]!.file);
    const bytes = await Deno.readFile(file);
    bytes[bytes.length - 1]! ^= 1;
    await Deno.writeFile(file, bytes);
    const packed = await PackedFolder.open(diskFolder(path));
    equal(packed.problems.empty, true);
    await packed.verify(hashOf);
    ok(/changed since/.test(await rejectionOf(() => packed.problems.throwIfAny(path))));
    packed.close();
  }));

Deno.test("PackedFolder.open() refuses other versions and layouts", () =>
  inTemporaryFolder(async (path) => {
    await packAll(path);
    const file = join(path, "packed.json");
    const manifest = JSON.parse(await Deno.readTextFile(file));
    const openWith = async (changes: object) => {
      await Deno.writeTextFile(file, JSON.stringify({ ...manifest, ...changes }));
      return await rejectionOf(async () => (await PackedFolder.open(diskFolder(path))).close());
    };
    ok(/version 2, this build reads 1/.test(await openWith({ version: 2 })));
    ok(/layout 99, this build reads/.test(await openWith({ layout: 99 })));
    ok(/malformed tensors/.test(await openWith({ tensors: { a: {} } })));
    ok(
      /malformed files/.test(await openWith({ files: { "../up": manifest.files["config.json"] } })),
    );
    ok(/not of kind/.test(await openWith({ kind: "something" })));
    ok(/precision/.test(await openWith({ precision: { quantisation: "q3" } })));
  }));

/** Message of what is thrown; "" when nothing is. */
async function rejectionOf(run: () => unknown): Promise<string> {
  try {
    await run();
    return "";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
