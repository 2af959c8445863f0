import assert from "node:assert/strict";
import { systemClock } from "@/clock.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { natsProbe, NatsServer } from "../../tests/nats_server.ts";
import { eventually } from "../../tests/patience.ts";
import { optionalTest } from "../../tests/skip.ts";
import { identityOf } from "./_peers.ts";
import { defaultClusterBounds } from "./bounds.ts";
import { ClusterTelemetry } from "./cluster_telemetry.ts";
import { ExpertGrid } from "./expert_grid.ts";
import { type ExpertComputer, ExpertServer } from "./expert_server.ts";
import { ClusterFront } from "./front.ts";
import { Holdings } from "./holdings.ts";
import type { Member } from "./membership.ts";
import { MemoryNetwork } from "./memory_stream.ts";
import { NatsMembership } from "./nats_membership.ts";
import { defaultPlanPolicy } from "./planner.ts";
import { LeasedShards } from "./shard_registry.ts";
import { ClusterTransport } from "./transport.ts";

const grid = new ExpertGrid({ layers: [0], experts: 8 });
const clock = systemClock;
const identity = { numericClass: "reference-1", weightHash: "sha256:00" };

/** Loads in no time and never computes. */
const idleExperts: ExpertComputer = {
  width: 8,
  load: () => Promise.resolve(),
  drop() {},
  compute: () => Promise.reject(new Error("nobody asks")),
};

/** Fronts and shards in this process, which find each other in a NATS server. */
class Fleet implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #memory = new MemoryNetwork();
  readonly #address: string;

  constructor(address: string) {
    this.#address = address;
  }

  async #join(): Promise<NatsMembership> {
    const connection = { servers: this.#address };
    const options = { connection, cluster: "test", grid, clock, log: silentLogger };
    return await NatsMembership.open({ ...options, bounds: defaultClusterBounds });
  }

  #transport(nodeId: string, role: "front" | "shard"): ClusterTransport {
    const memory = this.#memory;
    return new ClusterTransport({ clock, memory, identity: () => identityOf(role, { nodeId }) });
  }

  /** Returns how to make it say that it computes so many rows per second. */
  async shard(id: string): Promise<(speed: number) => void> {
    const offer = { speed: 1000, memoryBytes: 8, expertBytes: 1, ...identity, draining: false };
    const address = `memory:${id}`;
    const node = { id, ...offer };
    const member: Member = { id, incarnation: 1, role: "shard", address, node };
    const lease = this.#stack.use(await this.#join());
    const server = new ExpertServer({
      ...{ grid, experts: idleExperts, member, clock },
      holdings: new Holdings({ node: id, incarnation: 1, grid, capacity: 8 }),
    });
    const transport = this.#transport(id, "shard");
    await transport.listen(address, { accept: (peer) => server.accept(peer) });
    this.#stack.defer(() => server.close());
    lease.join(member);
    return (speed) => lease.update({ ...member, node: { ...node, speed } });
  }

  async front(id: string): Promise<ClusterFront> {
    const member: Member = { id, incarnation: 1, role: "front", address: "", node: undefined };
    const membership = await this.#join();
    const front = new ClusterFront({
      ...{ id, grid, clock, registry: new LeasedShards(membership, member) },
      transport: this.#transport(id, "front"),
      policy: { ...defaultPlanPolicy, identity },
      encoding: "f32",
      telemetry: new ClusterTelemetry({ clock, metrics: new Metrics() }),
    });
    this.#stack.defer(() => front.close());
    await eventually("it knows itself", () => front.status().fronts.some((one) => one.id === id));
    return front;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

optionalTest({
  name: "ClusterFront.rebalance() shares out the load of all fronts by the speed of the nodes",
  needs: [natsProbe],
}, async () => {
  await using server = await NatsServer.start();
  await using fleet = new Fleet(server.address);
  const planner = await fleet.front("planner");
  const other = await fleet.front("other");
  const setSpeed = await fleet.shard("anna");
  await fleet.shard("bert");
  const planned = () => planner.status().nodes.map((node) => node.planned).join();
  await eventually("both have their half", () => planned() === "4,4");

  // Each front has two hot experts of its own, and all four are on one node.
  const owners = planner.experts(0).layers[0]!.owners;
  const ofAnna = owners.flatMap(([owner], expert) => owner === owners[0]![0] ? [expert] : []);
  const hot = { planner: ofAnna.slice(0, 2), other: ofAnna.slice(2) };
  const rows = (experts: readonly number[]) =>
    Int32Array.from({ length: 2000 }, (_, i) => experts[i % experts.length]!);
  planner.routed(0, rows(hot.planner), 1);
  other.routed(0, rows(hot.other), 1);
  for (const front of [planner, other]) {
    await eventually("each knows what the other sends", () => {
      const { fronts, plannedBalance: balance } = front.status();
      return fronts.every(({ rowsPerSecond }) => rowsPerSecond > 10) && balance > 1.9;
    });
  }
  other.rebalance();
  for (const front of [planner, other]) {
    await eventually("the four are shared out", () => front.status().plannedBalance < 1.1);
  }
  assert.equal(planner.status().planner, "planner");

  setSpeed(300);
  const [anna, bert] = [0, 1].map((i) => () => planner.status().nodes[i]!);
  await eventually("anna is known to be slow", () => anna!().speed === 300);
  planner.rebalance();
  await eventually("anna has less to do", () => anna!().load < 0.5 * bert!().load);
});
