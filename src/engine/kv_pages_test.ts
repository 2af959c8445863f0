import assert from "node:assert/strict";
import { KvPages } from "./kv_pages.ts";

Deno.test("KvPages hands out each page once and takes it back at zero references", () => {
  const pages = new KvPages(3);
  const held = [pages.allocate(), pages.allocate(), pages.allocate()] as number[];
  assert.deepEqual(held.toSorted(), [0, 1, 2]);
  assert.equal(pages.allocate(), undefined);
  pages.retain(held[0]!);
  assert.equal(pages.release(held[0]!), 1);
  assert.equal(pages.freeCount, 0);
  assert.equal(pages.release(held[0]!), 0);
  assert.equal(pages.allocate(), held[0]);
  assert.throws(() => new KvPages(1).release(0), /released while free/);
  assert.throws(() => new KvPages(1).retain(0), /retained while free/);
});

Deno.test("KvPages.checkIntegrity() notices a lost reference", () => {
  const pages = new KvPages(2);
  const page = pages.allocate()!;
  pages.checkIntegrity(new Map([[page, 1]]));
  assert.throws(() => pages.checkIntegrity(new Map()), /1 references, 0 holders/);
  assert.throws(() => pages.checkIntegrity(new Map([[page, 2]])), /1 references, 2 holders/);
});
