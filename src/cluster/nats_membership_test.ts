import assert from "node:assert/strict";
import { Kvm } from "@nats-io/kv";
import { connect } from "@nats-io/transport-node";
import { systemClock } from "@/clock.ts";
import { Logger } from "@/telemetry/log.ts";
import { natsProbe, NatsServer } from "../../tests/nats_server.ts";
import { eventually } from "../../tests/patience.ts";
import { optionalTest } from "../../tests/skip.ts";
import { ExpertGrid } from "./expert_grid.ts";
import { decodeMember, encodeMember } from "./member_text.ts";
import { type Member, type MembershipView, plannerOf } from "./membership.ts";
import { NatsMembership } from "./nats_membership.ts";

const grid = new ExpertGrid({ layers: [0], experts: 2 });
const bounds = { leaseTtlMs: 1000, leaseRenewMs: 250 };
const log = new Logger({ write: () => {} });

function member(id: string, rest: Partial<Member> = {}): Member {
  return { id, incarnation: 1, role: "front", address: "", node: undefined, ...rest };
}

const shard = member("shard", {
  role: "shard",
  node: {
    id: "shard",
    speed: 10,
    memoryBytes: 100,
    expertBytes: 10,
    layerBytes: [10],
    numericClass: "c",
    weightHash: "w",
    draining: false,
    offers: new Set([1]),
  },
});

Deno.test("decodeMember() reads what encodeMember() writes, and refuses other shapes", () => {
  assert.deepEqual(decodeMember(encodeMember(shard, 7), grid), { member: shard, fence: 7 });
  assert.equal(decodeMember(encodeMember(shard, undefined), grid).fence, undefined);
  const asked = member("front", { rebalances: 2 });
  assert.deepEqual(decodeMember(encodeMember(asked, 7), grid).member, asked);
  const good = JSON.parse(encodeMember(shard, 7));
  const bad = [
    null,
    { ...good, role: "king" },
    { ...good, id: "a b" },
    { ...good, incarnation: -1 },
    { ...good, fence: "7" },
    { ...good, rebalances: "often" },
    { ...good, node: { ...good.node, layerBytes: [5, 5] } },
    { ...good, node: { ...good.node, layerBytes: [11] } },
    { ...good, node: { ...good.node, speed: 0 } },
    { ...good, node: { ...good.node, offers: "0-9" } },
    { ...good, node: { ...good.node, id: "other" } },
  ];
  for (const value of bad) {
    assert.throws(() => decodeMember(JSON.stringify(value), grid), Error, JSON.stringify(value));
  }
});

function names(view: MembershipView): string {
  return [...view.members.keys()].sort().join();
}

/** The test's server, and memberships of it. */
interface Store {
  readonly port: number;
  start(): Promise<void>;
  stop(): Promise<void>;
  open(cluster?: string): Promise<NatsMembership>;
}

function natsTest(name: string, run: (server: Store) => Promise<void>): void {
  optionalTest({ name, needs: [natsProbe] }, async () => {
    await using server = await NatsServer.start();
    const open = (cluster = "test") => {
      const connection = { servers: server.address, reconnectTimeWait: 50 };
      return NatsMembership.open({ connection, cluster, grid, bounds, clock: systemClock, log });
    };
    const { port } = server;
    await run({ port, start: () => server.resume(), stop: () => server.stop(), open });
  });
}

natsTest("NatsMembership shows members to each other, changes and leaves", async (server) => {
  await using front = await server.open();
  front.join(member("front"));
  await using other = await server.open("elsewhere");
  {
    await using node = await server.open();
    node.join(shard);
    await eventually(
      "both see both",
      () => names(front.view) === "front,shard" && names(node.view) === "front,shard",
    );
    assert.deepEqual(front.view.members.get("shard")?.member, shard);
    const { fence } = front.view.members.get("shard")!;
    assert.equal(node.lease.fence, fence);
    node.update({ ...shard, node: { ...shard.node!, draining: true } });
    await eventually(
      "it drains",
      () => front.view.members.get("shard")?.member.node?.draining === true,
    );
    assert.equal(front.view.members.get("shard")?.fence, fence, "still the same lease");
  }
  await eventually("it is gone", () => names(front.view) === "front");
  assert.equal(names(other.view), "");
  assert.equal(plannerOf(front.view)?.member.id, "front");
});

natsTest("NatsMembership publishes one plan per epoch when two fronts compete", async (server) => {
  await using a = await server.open();
  await using b = await server.open();
  a.join(member("a"));
  b.join(member("b"));
  for (let epoch = 1; epoch <= 5; epoch++) {
    const expectedRevision = a.view.plan?.revision ?? 0;
    const propose = (planner: string) => ({
      placement: { epoch, owners: [[planner], []] },
      planner,
      fence: 1,
      expectedRevision,
    });
    a.publishPlan(propose("a"));
    b.publishPlan(propose("b"));
    await eventually(
      "both see one plan",
      () => a.view.plan?.placement.epoch === epoch && b.view.plan?.placement.epoch === epoch,
    );
    assert.deepEqual(a.view.plan, b.view.plan);
  }
  await using late = await server.open();
  await eventually("a newcomer sees the plan", () => late.view.plan !== undefined);
  assert.deepEqual(late.view.plan, a.view.plan);
});

natsTest("NatsMembership drops who does not renew", async (server) => {
  await using front = await server.open();
  front.join(member("front"));
  await eventually("it holds a lease", () => front.lease.isHeld);
  // A process that was killed right after it had joined.
  const connection = await connect({ servers: `127.0.0.1:${server.port}` });
  const bucket = await new Kvm(connection).open("test_members");
  await bucket.put("shard", encodeMember(shard, undefined));
  await bucket.put("garbage", "{}");
  await connection.close();
  await eventually("it is there", () => names(front.view) === "front,shard");
  const startMs = systemClock.nowMs();
  await eventually("it expires", () => names(front.view) === "front");
  const elapsedMs = systemClock.nowMs() - startMs;
  assert.ok(elapsedMs < 3 * bounds.leaseTtlMs, `after ${elapsedMs} ms`);
});

natsTest(
  "NatsMembership gives the name to a later process",
  async (server) => {
    await using front = await server.open();
    front.join(member("front"));
    const first = await server.open();
    first.join(shard);
    await eventually("it is there", () => names(front.view) === "front,shard");
    const { fence } = front.view.members.get("shard")!;
    await using second = await server.open();
    second.join({ ...shard, incarnation: 2 });
    await eventually(
      "it is replaced",
      () => front.view.members.get("shard")?.member.incarnation === 2,
    );
    assert.ok(front.view.members.get("shard")!.fence > fence);
    await eventually("the first one knows", () => !first.lease.isHeld);
    await new Promise((resolve) => setTimeout(resolve, 2 * bounds.leaseRenewMs));
    assert.ok(!first.lease.isHeld && second.lease.isHeld, "it does not take the name back");
    await first[Symbol.asyncDispose]();
    assert.equal(names(front.view), "front,shard");
  },
);

natsTest(
  "NatsMembership comes back after the server was away for longer than a lease",
  async (server) => {
    await using front = await server.open();
    await using node = await server.open();
    front.join(member("front"));
    node.join(shard);
    await eventually("both hold a lease", () => front.lease.isHeld && node.lease.isHeld);
    front.publishPlan({
      placement: { epoch: 4, owners: [["shard"], []] },
      planner: "front",
      fence: front.lease.fence,
      expectedRevision: 0,
    });
    await eventually("the plan is out", () => node.view.plan?.placement.epoch === 4);
    await server.stop();
    await eventually("they fence themselves", () => !front.lease.isHeld && !node.lease.isHeld);
    assert.equal(names(front.view), "front,shard", "being cut off says nothing about others");
    await server.start();
    await eventually("both hold a lease again", () => front.lease.isHeld && node.lease.isHeld);
    await eventually(
      "both see both",
      () => names(front.view) === "front,shard" && names(node.view) === "front,shard",
    );
    assert.equal(front.view.plan?.placement.epoch, 4, "the plan outlives the server");
  },
);
