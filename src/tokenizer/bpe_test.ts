import { seededRandom } from "@/random.ts";
import fc from "fast-check";
import { deepEqual, equal, ok } from "node:assert/strict";
import { Bpe, type Merge } from "./bpe.ts";

const BYTE_IDS = Int32Array.from({ length: 256 }, (_, byte) => byte);

/** The rule itself: merge the leftmost pair of lowest rank until no pair merges. */
function mergeNaively(bytes: Uint8Array, merges: readonly Merge[]): number[] {
  const ids = [...bytes];
  const rankAt = (i: number) =>
    merges.findLastIndex(({ left, right }) => left === ids[i] && right === ids[i + 1]);
  for (;;) {
    let best = -1;
    for (let i = 0; i + 1 < ids.length; i++) {
      const rank = rankAt(i);
      if (rank >= 0 && (best < 0 || rank < rankAt(best))) best = i;
    }
    if (best < 0) return ids;
    ids.splice(best, 2, merges[rankAt(best)]!.merged);
  }
}

/** Merge tables over bytes 0…3 in arbitrary rank order, also with later merges ranked first. */
const mergeTables = fc.array(
  fc.record({ left: fc.nat(9), right: fc.nat(9) }),
  { maxLength: 12 },
).chain((pairs) => {
  const merges = pairs.map((pair, index) => ({ ...pair, merged: 4 + index }));
  return fc.shuffledSubarray(merges, { minLength: merges.length });
});

function encode(bpe: Bpe, bytes: Uint8Array): number[] {
  const ids: number[] = [];
  bpe.encode(bytes, ids);
  return ids;
}

Deno.test("encode() equals naive merging for any merges and bytes", () => {
  const bytes = fc.uint8Array({ max: 3, maxLength: 40 });
  fc.assert(
    fc.property(mergeTables, bytes, (merges, bytes) => {
      deepEqual(encode(new Bpe(BYTE_IDS, merges), bytes), mergeNaively(bytes, merges));
    }),
    { numRuns: 2000 },
  );
});

/** "aa", "aaaa", … up to 2^10 letters, and "ab". */
function doublingMerges(): Merge[] {
  const merges = [{ left: 97, right: 97, merged: 256 }, { left: 97, right: 98, merged: 257 }];
  for (let id = 258; id < 267; id++) {
    const left = id === 258 ? 256 : id - 1;
    merges.push({ left, right: left, merged: id });
  }
  return merges;
}

Deno.test("encode() merges long pieces beyond its buffers", () => {
  const ids = encode(new Bpe(BYTE_IDS, doublingMerges()), new Uint8Array(10_241).fill(97));
  deepEqual(ids, [...new Array(10).fill(266), 97]);
});

Deno.test("encode() takes work linear in the length but for the logarithm", () => {
  const bpe = new Bpe(BYTE_IDS, doublingMerges());
  const random = seededRandom(7);
  const inputs: Record<string, (i: number) => number> = {
    same: () => 97,
    alternating: (i) => 97 + i % 2,
    random: () => 97 + Math.floor(random() * 2),
  };
  for (const [name, byteAt] of Object.entries(inputs)) {
    const workPerByte = [1 << 12, 1 << 15, 1 << 18].map((length) => {
      const work = bpe.encode(Uint8Array.from({ length }, (_, i) => byteAt(i)), []);
      return work / (length * Math.log2(length));
    });
    ok(workPerByte[0]! > 0);
    const growth = workPerByte[2]! / workPerByte[0]!;
    ok(growth < 1.5, `${name}: work per byte grew by ${growth} for 64 times the length`);
  }
});

Deno.test("encode() of no bytes appends nothing", () => {
  const ids = [5];
  equal(new Bpe(BYTE_IDS, []).encode(new Uint8Array(0), ids), 0);
  deepEqual(ids, [5]);
});
