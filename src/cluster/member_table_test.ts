import assert from "node:assert/strict";
import { LeaseKeeper } from "./lease_keeper.ts";
import { MemberTable } from "./member_table.ts";
import { type Member, plannerOf } from "./membership.ts";

function member(id: string, rest: Partial<Member> = {}): Member {
  return { id, incarnation: 1, role: "front", address: "", node: undefined, ...rest };
}

const owners = [["a"]];

Deno.test("MemberTable drops a lease that is not renewed for a ttl", () => {
  const table = new MemberTable({ ttlMs: 100 });
  const a = member("a");
  const fence = table.join(a, 0)!;
  assert.ok(table.renew(a, { fence, nowMs: 90 }));
  table.tick(189);
  assert.ok(table.view.members.has("a"));
  table.tick(190);
  assert.ok(!table.view.members.has("a"));
  assert.ok(!table.renew(a, { fence, nowMs: 191 }), "an expired lease is gone");
});

Deno.test("MemberTable gives the name to the newest process and a later fence", () => {
  const table = new MemberTable({ ttlMs: 100 });
  const first = table.join(member("a"), 0);
  const second = table.join(member("a", { incarnation: 2 }), 1);
  assert.ok(first && second && second > first);
  assert.equal(table.join(member("a"), 2), undefined, "the earlier process is late");
  assert.ok(!table.renew(member("a"), { fence: first, nowMs: 2 }));
  table.leave("a", first);
  assert.equal(table.view.members.get("a")?.member.incarnation, 2);
  table.leave("a", second);
  assert.equal(table.view.members.size, 0);
});

Deno.test("MemberTable publishes one plan per epoch, by compare-and-set", () => {
  const table = new MemberTable({ ttlMs: 100 });
  const propose = (planner: string, epoch: number, expectedRevision: number) =>
    table.publish({ placement: { epoch, owners }, planner, fence: 1, expectedRevision });
  assert.ok(propose("a", 1, 0));
  const { revision } = table.view.plan!;
  assert.ok(!propose("b", 1, 0), "the plan changed meanwhile");
  assert.ok(!propose("b", 1, revision), "the epoch does not grow");
  assert.ok(propose("b", 2, revision));
  assert.equal(table.view.plan?.planner, "b");
  assert.ok(!propose("a", 3, revision));
});

Deno.test("MemberTable keeps a view until something changes", () => {
  const table = new MemberTable({ ttlMs: 100 });
  const a = member("a");
  const fence = table.join(a, 0)!;
  const { view } = table;
  table.renew(a, { fence, nowMs: 50 });
  assert.equal(table.view, view);
  table.renew(member("a", { address: "x" }), { fence, nowMs: 60 });
  assert.ok(table.view.revision > view.revision);
  assert.equal(view.members.get("a")?.member.address, "", "views do not change");
});

Deno.test("plannerOf() is the front with the oldest lease", () => {
  const table = new MemberTable({ ttlMs: 100 });
  table.join(member("s", { role: "shard" }), 0);
  const old = table.join(member("b"), 0)!;
  table.join(member("a"), 0);
  assert.equal(plannerOf(table.view)?.member.id, "b");
  table.leave("b", old);
  assert.equal(plannerOf(table.view)?.member.id, "a");
});

Deno.test("LeaseKeeper renews in time and stops trusting what was not renewed for a ttl", () => {
  const keeper = new LeaseKeeper({ ttlMs: 100, renewMs: 30 });
  assert.equal(keeper.tick(0), "join");
  assert.equal(keeper.tick(10), undefined);
  assert.ok(!keeper.isHeld(10));
  keeper.granted(5, 0);
  assert.equal(keeper.tick(30), "renew");
  assert.ok(keeper.isHeld(99) && !keeper.isHeld(100), "counted from sending");
  keeper.granted(5, 30);
  assert.ok(keeper.isHeld(129) && !keeper.isHeld(130));
  keeper.refused(4);
  assert.ok(keeper.isHeld(100), "of an earlier lease");
  keeper.refused(5);
  assert.ok(!keeper.isHeld(100));
  assert.equal(keeper.tick(61), "join", "at once");
  keeper.granted(3, 61);
  keeper.granted(9, 61);
  keeper.granted(3, 61);
  assert.equal(keeper.fence, 9);
});
