import assert from "node:assert/strict";
import { join } from "node:path";
import { type GgufShape, writeGguf } from "./gguf.ts";
import { towerGraph, writeTower } from "./onnx.ts";
import { inTemporaryFolder } from "../../../tests/temporary_folder.ts";

const shape: GgufShape = {
  layers: 2,
  hiddenWidth: 64,
  intermediateWidth: 96,
  heads: 4,
  kvHeads: 2,
  headWidth: 32,
  vocabularySize: 1200,
  ropeTheta: 1e6,
  epsilon: 1e-6,
  contextTokens: 512,
};

/** Reads a GGUF file back, after the format's description rather than our writer. */
class GgufReader {
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get position(): number {
    return this.#at;
  }

  u32(): number {
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4, true);
  }

  u64(): number {
    this.#at += 8;
    return Number(this.#view.getBigUint64(this.#at - 8, true));
  }

  string(): string {
    const length = this.u64();
    this.#at += length;
    return new TextDecoder().decode(
      new Uint8Array(this.#view.buffer, this.#view.byteOffset + this.#at - length, length),
    );
  }

  value(type = this.u32()): unknown {
    if (type === 8) return this.string();
    if (type === 9) {
      const items = this.u32();
      return Array.from({ length: this.u64() }, () => this.value(items));
    }
    if (type === 7) return this.#view.getUint8(this.#at++) === 1;
    this.#at += 4;
    if (type === 6) return this.#view.getFloat32(this.#at - 4, true);
    if (type === 5) return this.#view.getInt32(this.#at - 4, true);
    assert.equal(type, 4);
    return this.#view.getUint32(this.#at - 4, true);
  }
}

for (const [format, type, groupBytes] of [["q4_0", 2, 18], ["q8_0", 8, 34]] as const) {
  Deno.test(`writeGguf() writes metadata and aligned tensors that fill the file (${format})`, () =>
    inTemporaryFolder(async (folder) => {
      const path = join(folder, "model.gguf");
      await writeGguf(path, { shape, format });
      const bytes = await Deno.readFile(path);
      const reader = new GgufReader(bytes);
      assert.equal(reader.u32(), 0x46554747);
      assert.equal(reader.u32(), 3);
      const [tensorCount, valueCount] = [reader.u64(), reader.u64()];
      const values = new Map(
        Array.from({ length: valueCount }, () => [reader.string(), reader.value()]),
      );
      assert.equal(values.get("qwen3.block_count"), 2);
      assert.equal(values.get("qwen3.attention.key_length"), 32);
      const tokens = values.get("tokenizer.ggml.tokens") as string[];
      assert.equal(tokens.length, shape.vocabularySize);
      assert.equal(new Set(tokens).size, tokens.length);
      assert.equal(tokenTypes(values).length, tokens.length);
      const tensors = Array.from({ length: tensorCount }, () => {
        const name = reader.string();
        const dimensions = Array.from({ length: reader.u32() }, () => reader.u64());
        return { name, dimensions, type: reader.u32(), offset: reader.u64() };
      });
      const dataStart = Math.ceil(reader.position / 32) * 32;
      let end = 0;
      for (const tensor of tensors) {
        assert.equal(tensor.offset, end, tensor.name);
        const elements = tensor.dimensions.reduce((a, b) => a * b, 1);
        const isVector = tensor.dimensions.length === 1;
        assert.equal(tensor.type, isVector ? 0 : type);
        end += isVector ? 4 * elements : elements / 32 * groupBytes;
        end = Math.ceil(end / 32) * 32;
      }
      assert.equal(bytes.length, dataStart + end);
      const down = tensors.find(({ name }) => name === "blk.1.ffn_down.weight")!;
      assert.deepEqual(down.dimensions, [96, 64]);
    }));
}

function tokenTypes(values: ReadonlyMap<string, unknown>): unknown[] {
  return values.get("tokenizer.ggml.token_type") as unknown[];
}

const tower = {
  hiddenWidth: 8,
  intermediateWidth: 16,
  layers: 3,
  heads: 2,
  patches: 4,
  patchWidth: 12,
};

/** Fields of a protobuf message: numbers, and bytes of everything with a length. */
function fieldsOf(bytes: Uint8Array): { field: number; value: number | Uint8Array }[] {
  const fields: { field: number; value: number | Uint8Array }[] = [];
  let at = 0;
  const varint = () => {
    let [value, scale] = [0, 1];
    for (;; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    if (tag % 8 === 0) fields.push({ field: tag >> 3, value: varint() });
    else {
      assert.equal(tag % 8, 2);
      const length = varint();
      assert.ok(at + length <= bytes.length, "a field ends inside its message");
      fields.push({ field: tag >> 3, value: bytes.subarray(at, at += length) });
    }
  }
  return fields;
}

const text = (value: number | Uint8Array) => new TextDecoder().decode(value as Uint8Array);

Deno.test("towerGraph() defines every value before a node uses it", () => {
  const model = fieldsOf(concat(towerGraph(tower)));
  const graph = fieldsOf(model.find(({ field }) => field === 7)!.value as Uint8Array);
  const messages = (field: number) =>
    graph.filter((entry) => entry.field === field).map(({ value }) =>
      fieldsOf(value as Uint8Array)
    );
  const defined = new Set(["pixels"]);
  for (const weight of messages(5)) {
    defined.add(text(weight.find(({ field }) => field === 8)!.value));
    const dims = weight.filter(({ field }) => field === 1).map(({ value }) => value as number);
    const data = weight.find(({ field }) => field === 9)!.value as Uint8Array;
    const width = weight.find(({ field }) => field === 2)!.value === 1 ? 4 : 8;
    assert.equal(data.length, width * dims.reduce((a, b) => a * b, 1));
  }
  for (const node of messages(1)) {
    for (const { field, value } of node) {
      if (field === 1) assert.ok(defined.has(text(value)), `${text(value)} is used undefined`);
      if (field === 2) defined.add(text(value));
    }
  }
  const [output] = messages(12);
  assert.ok(defined.has(text(output!.find(({ field }) => field === 1)!.value)));
});

Deno.test("writeTower() writes what towerGraph() gives", () =>
  inTemporaryFolder(async (folder) => {
    const path = join(folder, "tower.onnx");
    await writeTower(path, tower);
    assert.deepEqual(await Deno.readFile(path), concat(towerGraph(tower)));
  }));

function concat(pieces: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(pieces.flatMap((piece) => [...piece]));
}
