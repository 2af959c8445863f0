/**
 * The record table: opcode and slots of every op, as the kernels read them (the same table is in
 * `kernels-rs/compute/src/record.rs`; both sides hash it). Also how a record is written.
 */
import { assert } from "@/assert.ts";
import { FIRST_TRAINING_OPCODE, trainingRecordTable } from "./training_records.ts";

/** Bytes of one record: an opcode and up to 31 slots of eight bytes. */
export const RECORD_BYTES = 256;

/** A slot is a name and a kind: `p` an address (0 = none), `i` an unsigned integer, `f` a float32. */
const kvSlots = [
  "cache:p",
  "format:i",
  "pages:i",
  "pageTokens:i",
  "kvHeads:i",
  "headWidth:i",
  "headBytes:i",
  "valueOffset:i",
  "scaleOffset:i",
] as const;

/** In the order of their opcodes, which start at 1. */
export const recordTable = {
  packRows: [
    "source:p",
    "dtype:i",
    "firstRow:i",
    "rows:i",
    "columns:i",
    "weight:p",
    "format:i",
    "panelBytes:i",
  ],
  gatherRows: [
    "rows:i",
    "rowIndex:p",
    "table:p",
    "format:i",
    "panelBytes:i",
    "tableRows:i",
    "width:i",
    "out:p",
  ],
  copyRows: [
    "rows:i",
    "source:p",
    "sourceRow:p",
    "sourceRows:i",
    "out:p",
    "outRow:p",
    "outRows:i",
    "width:i",
  ],
  matmul: [
    "rows:i",
    "input:p",
    "weight:p",
    "format:i",
    "panelBytes:i",
    "columns:i",
    "width:i",
    "bias:p",
    "out:p",
    "scratch:p",
    "blocks:p",
    "blockRows:i",
  ],
  expertMatmul: [
    "places:i",
    "input:p",
    "inputRows:i",
    "weight:p",
    "format:i",
    "panelBytes:i",
    "expertBytes:i",
    "experts:i",
    "columns:i",
    "width:i",
    "expertStart:p",
    "groupedPair:p",
    "choices:i",
    "out:p",
    "scratch:p",
    "blocks:p",
    "blockRows:i",
  ],
  rmsNorm: ["rows:i", "width:i", "input:p", "weight:p", "epsilon:f", "out:p"],
  layerNorm: ["rows:i", "width:i", "input:p", "weight:p", "bias:p", "epsilon:f", "out:p"],
  rope: [
    "rows:i",
    "width:i",
    "headWidth:i",
    "input:p",
    "position:p",
    "table:p",
    "positions:i",
    "out:p",
  ],
  writeKv: ["rows:i", "key:p", "value:p", "slot:p", ...kvSlots],
  attention: [
    "rows:i",
    "query:p",
    "heads:i",
    "scale:f",
    "out:p",
    "rowSequence:p",
    "rowLength:p",
    "pageTable:p",
    "sequences:i",
    "sequencePages:i",
    ...kvSlots,
    "scratch:p",
    "threadFloats:i",
  ],
  segmentAttention: [
    "rows:i",
    "segmentRows:i",
    "heads:i",
    "headWidth:i",
    "scale:f",
    "query:p",
    "key:p",
    "value:p",
    "out:p",
    "scratch:p",
    "threadFloats:i",
    "rounded:i",
  ],
  swiglu: ["count:i", "gate:p", "up:p", "out:p"],
  gelu: ["count:i", "input:p", "out:p"],
  add: ["count:i", "left:p", "right:p", "rightCount:i", "out:p"],
  gateTopK: [
    "rows:i",
    "experts:i",
    "choices:i",
    "normalize:i",
    "logits:p",
    "expertIndex:p",
    "expertWeight:p",
  ],
  groupByExpert: [
    "pairs:i",
    "experts:i",
    "expertIndex:p",
    "expertStart:p",
    "groupedPair:p",
    "pairPlace:p",
  ],
  combineRows: [
    "rows:i",
    "choices:i",
    "width:i",
    "input:p",
    "pairPlace:p",
    "expertWeight:p",
    "out:p",
  ],
  patchify: [
    "tiles:i",
    "tileSize:i",
    "patchSize:i",
    "input:p",
    "meanRed:f",
    "meanGreen:f",
    "meanBlue:f",
    "deviationRed:f",
    "deviationGreen:f",
    "deviationBlue:f",
    "out:p",
  ],
  sample: [
    "rows:i",
    "vocabulary:i",
    "candidates:i",
    "logits:p",
    "params:p",
    "mask:p",
    "masks:i",
    "adjustStart:p",
    "adjustToken:p",
    "adjustPenalty:p",
    "adjustAdd:p",
    "id:p",
    "logprob:p",
    "candidateId:p",
    "candidateLogprob:p",
    "scratch:p",
    "threadBytes:i",
  ],
  probe: ["kind:i", "memory:p", "count:i", "out:p"],
} as const satisfies Record<string, readonly `${string}:${"p" | "i" | "f"}`[]>;

type Table = typeof recordTable & typeof trainingRecordTable;

export type RecordName = keyof Table;

type SlotName<S> = S extends `${infer Name}:${string}` ? Name : never;

/** Values of an op's slots by name. */
export type Slots<Name extends RecordName> = Readonly<
  Record<SlotName<Table[Name][number]>, number>
>;

/** The op of a record. */
export function nameOfOpcode(opcode: number): RecordName {
  const isTraining = opcode >= FIRST_TRAINING_OPCODE;
  const table = isTraining ? trainingRecordTable : recordTable;
  const name = Object.keys(table)[opcode - (isTraining ? FIRST_TRAINING_OPCODE : 1)];
  assert(name !== undefined, `opcode ${opcode}`);
  return name as RecordName;
}

/** Slots of an op with their kinds. */
export function slotsOf(name: RecordName): readonly string[] {
  return { ...recordTable, ...trainingRecordTable }[name];
}

interface SlotLayout {
  readonly name: string;
  readonly isFloat: boolean;
}

interface RecordLayout {
  readonly opcode: number;
  readonly slots: readonly SlotLayout[];
}

type SlotTable = Readonly<Record<string, readonly string[]>>;

const layoutsOf = (table: SlotTable, firstOpcode: number): [string, RecordLayout][] =>
  Object.entries(table).map(([name, slots], index) => [name, {
    opcode: firstOpcode + index,
    slots: slots.map((slot) => {
      const [slotName, kind] = slot.split(":");
      return { name: slotName!, isFloat: kind === "f" };
    }),
  }]);

const layouts: ReadonlyMap<string, RecordLayout> = new Map([
  ...layoutsOf(recordTable, 1),
  ...layoutsOf(trainingRecordTable, FIRST_TRAINING_OPCODE),
]);

/** Writes one record at byte `address` of the memory that both views show. */
export function writeRecord<Name extends RecordName>(
  memory: { readonly words: Uint32Array; readonly floats: Float32Array },
  address: number,
  record: { readonly name: Name; readonly slots: Slots<Name> },
): void {
  const layout = layouts.get(record.name)!;
  const values: Readonly<Record<string, number>> = record.slots;
  // Read once: a view of a growing memory is checked at each reading.
  const { words, floats } = memory;
  let place = address / 4;
  words[place] = layout.opcode;
  words[place + 1] = 0;
  for (const { name, isFloat } of layout.slots) {
    place += 2;
    const value = values[name]!;
    if (isFloat) {
      floats[place] = value;
      words[place + 1] = 0;
      continue;
    }
    if (!Number.isSafeInteger(value) || value < 0) {
      assert(false, `${record.name}.${name} is ${value}`);
    }
    words[place] = value % 2 ** 32;
    words[place + 1] = Math.floor(value / 2 ** 32);
  }
}

const snakeCase = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Hash of the table of serving, as those kernels compute it. */
export function tableHash(): number {
  return hashOf(recordTable, 1);
}

/** Hash of both tables, as the kernels with the ops of training compute it. */
export function trainingTableHash(): number {
  return (tableHash() ^ hashOf(trainingRecordTable, FIRST_TRAINING_OPCODE)) >>> 0;
}

/** FNV-1a over "<opcode><Name>,<slot>:<kind>…" of all ops. */
function hashOf(table: SlotTable, firstOpcode: number): number {
  let text = "";
  for (const [index, [name, slots]] of Object.entries(table).entries()) {
    text += `${firstOpcode + index}${name[0]!.toUpperCase()}${name.slice(1)}`;
    for (const slot of slots) text += `,${snakeCase(slot)}`;
  }
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
