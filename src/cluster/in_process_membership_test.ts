import assert from "node:assert/strict";
import { InProcessMembership } from "./in_process_membership.ts";
import { MemberTable } from "./member_table.ts";
import type { Member } from "./membership.ts";

function member(id: string, role: Member["role"] = "front"): Member {
  return { id, incarnation: 1, role, address: "", node: undefined };
}

/** A membership whose time stands still until the test moves it. */
function open() {
  const time = { nowMs: 0 };
  const clock = { nowMs: () => time.nowMs, epochMs: () => time.nowMs };
  const table = new MemberTable({ ttlMs: 100, firstRevision: 1000 });
  return { time, membership: new InProcessMembership({ table, clock, renewMs: 1e6 }) };
}

Deno.test("InProcessMembership keeps its own lease and drops shards that are not renewed", async () => {
  const { time, membership } = open();
  let changes = 0;
  const unwatch = membership.watch(() => changes += 1);
  membership.join(member("front"));
  assert.ok(membership.lease.isHeld && membership.lease.fence > 1000);
  membership.table.join(member("shard", "shard"), 0);
  membership.tick();
  assert.equal(changes, 2);
  const { fence } = membership.lease;
  for (time.nowMs = 50; time.nowMs <= 200; time.nowMs += 50) membership.tick();
  assert.deepEqual([...membership.view.members.keys()], ["front"]);
  assert.equal(membership.lease.fence, fence);
  assert.equal(changes, 3);
  unwatch();
  await membership[Symbol.asyncDispose]();
  assert.equal(membership.view.members.size, 0);
  assert.equal(changes, 3);
});

Deno.test("InProcessMembership takes a new lease after the process was suspended", async () => {
  const { time, membership } = open();
  membership.join(member("front"));
  const { fence } = membership.lease;
  time.nowMs = 5000;
  membership.tick();
  assert.ok(membership.lease.isHeld && membership.lease.fence > fence);
  await membership[Symbol.asyncDispose]();
});

Deno.test("InProcessMembership shows a published plan at once", async () => {
  const { membership } = open();
  membership.join(member("front"));
  const { fence } = membership.lease;
  const placement = { epoch: 1, owners: [["a"]] };
  membership.publishPlan({ placement, planner: "front", fence, expectedRevision: 0 });
  assert.equal(membership.view.plan?.placement, placement);
  await membership[Symbol.asyncDispose]();
});
