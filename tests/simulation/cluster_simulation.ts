/**
 * One seed, one life of a cluster: fronts call and plan while nodes crash, pause, drain and lose
 * messages; then the faults end and everything must come to rest.
 */
import assert from "node:assert/strict";
import type { ClusterBounds } from "@/cluster/bounds.ts";
import { ExpertGrid } from "@/cluster/expert_grid.ts";
import { addLoads } from "@/cluster/load.ts";
import { bytesOfSlots, type ClusterNode } from "@/cluster/placement.ts";
import { defaultPlanPolicy } from "@/cluster/planner.ts";
import { seededRandom } from "@/random.ts";
import { ClusterChecker } from "./cluster_checker.ts";
import { SimFront } from "./cluster_front.ts";
import { Network } from "./cluster_network.ts";
import { type PlantedBug, SimShard, SimStore, STORE, type World } from "./cluster_processes.ts";
import { between, pick, type Random } from "./workload.ts";

/** Everything is a fifteenth of the real thing, or less. */
const bounds: ClusterBounds = {
  leaseTtlMs: 200,
  leaseRenewMs: 50,
  nodeSilenceMs: 100,
  planIntervalMs: 300,
  planCopies: 8,
  planSettleMs: 30,
  planFirstWaitMs: 150,
  planStallMs: 250,
  planPublishMs: 60,
  planGraceMs: 80,
  callMs: 800,
  attemptMs: 60,
  ownerWaitMs: 150,
  retryMs: 4,
  attempts: 256,
  latencySamplesMin: 8,
  latencySamples: 32,
  hedgedRowsShare: 0.05,
  hedgedRowsSaved: 32,
  circuitFailures: 3,
  circuitOpenMs: 40,
  circuitOpenMsMax: 400,
};

const FAULTS_MS = 2000;
/** How long the load stays as it is. */
const LOAD_MS = 500;
/** How long the cluster may need to come to rest, and how long it is watched afterwards. */
const RECOVERY_MS = 1500;
const QUIET_MS = 300;

interface Setup {
  readonly shards: number;
  readonly fronts: number;
  readonly layers: number;
  readonly experts: number;
  readonly replicas: number;
  readonly spareCopies: number;
  /** Experts that each shard can hold beyond what is needed without one of them. */
  readonly extraRoom: number;
  readonly fallback: boolean;
  readonly callsAtOnce: number;
  readonly delayMs: number;
  readonly tail: number;
  readonly loss: number;
  readonly duplication: number;
  /** Chances per tick of each fault. */
  readonly crash: number;
  readonly pause: number;
  readonly cut: number;
  readonly slow: number;
  readonly frontCrash: number;
  readonly storePause: number;
  readonly drain: boolean;
  /** Two copies, faults one after the other with time to recover: no call may fail. */
  readonly gentle: boolean;
}

function randomSetup(random: Random): Setup {
  const gentle = random() < 0.3;
  const shards = between(random, gentle ? 3 : 2, 5);
  return {
    shards,
    fronts: between(random, 1, 2),
    layers: between(random, 1, 2),
    experts: between(random, 3, 8),
    replicas: gentle ? 2 : between(random, 1, 2),
    spareCopies: between(random, 0, 3),
    extraRoom: between(random, gentle ? 2 : 0, 4),
    fallback: !gentle && random() < 0.3,
    callsAtOnce: between(random, 1, 2),
    delayMs: pick(random, [1, 4, 8]),
    tail: pick(random, [0, 0, 0.02, 0.2]),
    loss: gentle ? 0 : pick(random, [0, 0, 0.01, 0.1]),
    duplication: pick(random, [0, 0.05, 0.3]),
    crash: pick(random, [0, 0.002, 0.006]),
    pause: pick(random, [0, 0.002, 0.006]),
    cut: gentle ? 0 : pick(random, [0, 0.002, 0.006]),
    slow: pick(random, [0, 0.003]),
    frontCrash: gentle ? 0 : pick(random, [0, 0.001, 0.003]),
    storePause: gentle ? 0 : pick(random, [0, 0.001]),
    drain: random() < 0.2,
    gentle,
  };
}

function skewedLoad(size: number, shift: number): Float64Array {
  return Float64Array.from({ length: size }, (_, slot) => 100 / (1 + (slot + 2 * shift) % 5));
}

/** Each front likes other experts. */
function skewedLoads(fronts: readonly string[], size: number, shift: number) {
  return new Map(fronts.map((id, i) => [id, skewedLoad(size, shift + i)]));
}

function nodesOf(setup: Setup, random: Random): ClusterNode[] {
  const slots = setup.layers * setup.experts;
  const survivors = Math.max(1, setup.shards - 1);
  const needed = Math.ceil(slots * (setup.gentle ? 2 : 1) / survivors);
  // Half of the worlds have layers whose experts differ; room that none of them fills is given on top.
  const differ = setup.shards % 2 === 0;
  const layerBytes = Array.from({ length: setup.layers }, (_, i) => differ ? 7 + 6 * (i % 2) : 10);
  const spareBytes = differ ? 2 * 13 + 3 * needed : 0;
  return Array.from({ length: setup.shards }, (_, i) => ({
    id: `shard-${i}`,
    speed: pick(random, [500, 1000, 2000]),
    memoryBytes: 10 * (needed + setup.extraRoom) + spareBytes,
    ...{ expertBytes: Math.max(...layerBytes), layerBytes },
    numericClass: "c",
    weightHash: "w",
    draining: false,
  }));
}

export interface SimulationOptions {
  readonly bug?: PlantedBug;
  readonly trace?: (line: string) => void;
}

export class ClusterSimulation {
  readonly #random: Random;
  readonly #setup: Setup;
  readonly #network: Network;
  readonly #world: World;
  readonly #shards = new Map<string, SimShard>();
  readonly #fronts = new Map<string, SimFront>();
  #store!: SimStore;
  /** When a broken process is repaired. */
  #repairs: { atMs: number; name: string; repair: () => void }[] = [];
  #faultFreeMs = 0;
  #canDrain: boolean;

  constructor(seed: number, options: SimulationOptions = {}) {
    const random = this.#random = seededRandom(seed * 2654435761);
    const setup = this.#setup = randomSetup(random);
    const trace = options.trace ?? (() => {});
    trace(JSON.stringify({ seed, ...setup }));
    const grid = new ExpertGrid({
      layers: Array.from({ length: setup.layers }, (_, i) => 2 * i + 1),
      experts: setup.experts,
    });
    const { delayMs, tail, loss, duplication } = setup;
    const network = this.#network = new Network({
      random,
      setup: { delayMs, tail, loss, duplication },
      trace,
    });
    const nodes = nodesOf(setup, random);
    const fronts = Array.from({ length: setup.fronts }, (_, i) => `front-${i}`);
    this.#world = {
      network,
      random,
      grid,
      bounds,
      checker: new ClusterChecker({
        grid,
        memory: new Map(nodes.map(({ id, memoryBytes }) => [id, memoryBytes])),
        sizes: Array.from(
          { length: grid.size },
          (_, slot) => bytesOfSlots(nodes[0]!, grid, [slot]),
        ),
        nowMs: () => network.nowMs,
      }),
      fronts,
      shards: nodes.map(({ id }) => id),
      bug: options.bug,
      loads: skewedLoads(fronts, grid.size, 0),
      slowness: new Map(),
    };
    this.#canDrain = setup.drain;
    this.#populate(nodes);
  }

  #populate(nodes: readonly ClusterNode[]): void {
    const { replicas, spareCopies, fallback, callsAtOnce } = this.#setup;
    this.#network.add(STORE, () => this.#store = new SimStore(this.#world));
    for (const id of this.#world.fronts) {
      this.#network.add(id, () => {
        const identity = { weightHash: "w", numericClass: "c" };
        const policy = { ...defaultPlanPolicy, identity, replicas, spareCopies, copiesMax: 8 };
        const expectedNodes = nodes.length;
        const front = new SimFront(this.#world, id, {
          policy,
          fallback,
          callsAtOnce,
          expectedNodes,
        });
        this.#fronts.set(id, front);
        return front;
      });
    }
    for (const node of nodes) {
      this.#network.add(node.id, () => {
        const shard = new SimShard(this.#world, node);
        this.#shards.set(node.id, shard);
        return shard;
      });
    }
  }

  /** Lives until the end; throws when something that must hold does not. */
  run(): ClusterChecker["counts"] {
    const { checker } = this.#world;
    while (this.#network.nowMs < FAULTS_MS) {
      this.#disturb();
      this.#network.step();
    }
    this.#heal();
    const healedMs = this.#network.nowMs;
    while (!this.#isAtRest() && this.#network.nowMs < healedMs + RECOVERY_MS) this.#network.step();
    this.#checkRest();
    const restMs = this.#network.nowMs;
    while (this.#network.nowMs < restMs + QUIET_MS) this.#network.step();
    const late = checker.failures.filter(({ startedMs }) => startedMs > restMs);
    assert.deepEqual(late, [], "a call fails in a healthy cluster");
    if (this.#setup.gentle) {
      assert.deepEqual(checker.failures, [], "a call fails though two copies exist");
      const longestMs = Math.max(0, ...checker.durationsMs);
      // One silence, and old work that the other node was too slow for.
      assert.ok(longestMs <= 4 * bounds.attemptMs, `a call takes ${longestMs} ms`);
    }
    this.#finish();
    return checker.counts;
  }

  #disturb(): void {
    const nowMs = this.#network.nowMs;
    if (nowMs % LOAD_MS === 0) {
      const { fronts, grid } = this.#world;
      this.#world.loads = skewedLoads(fronts, grid.size, nowMs / LOAD_MS);
    }
    for (const { atMs, name, repair } of this.#repairs) {
      if (nowMs < atMs) continue;
      repair();
      this.#repairs = this.#repairs.filter((other) => other.name !== name || other.atMs !== atMs);
    }
    if (this.#setup.gentle) return this.#disturbGently();
    const { crash, pause, cut, slow, frontCrash, storePause } = this.#setup;
    const chance = (probability: number) => this.#random() < probability;
    const shard = pick(this.#random, this.#world.shards);
    const front = pick(this.#random, this.#world.fronts);
    if (chance(crash)) this.#crash(shard);
    if (chance(pause)) this.#pause(shard);
    if (chance(frontCrash)) this.#crash(front);
    if (chance(frontCrash)) this.#pause(front);
    if (chance(storePause)) this.#pause(STORE);
    if (chance(slow)) this.#slow(shard);
    if (chance(cut)) {
      this.#cut(pick(this.#random, [shard, front]), pick(this.#random, [STORE, front]));
    }
    if (this.#canDrain && chance(0.002)) this.#drain(shard);
  }

  /** One fault at a time, and none while the copies of the last one are not restored. */
  #disturbGently(): void {
    const nowMs = this.#network.nowMs;
    const isWhole = this.#repairs.length === 0 && this.#isAtRest() && this.#survivesOneFault();
    if (!isWhole) this.#faultFreeMs = nowMs;
    if (nowMs - this.#faultFreeMs < 60) return;
    const shard = pick(this.#random, this.#world.shards);
    const { crash, pause, slow } = this.#setup;
    const kind = pick(this.#random, ["crash", "pause", "slow", "drain"]);
    if (kind === "crash" && crash > 0) this.#crash(shard);
    if (kind === "pause" && pause > 0) this.#pause(shard);
    if (kind === "slow" && slow > 0) this.#slow(shard);
    if (kind === "drain" && this.#canDrain) this.#drain(shard);
  }

  #later(name: string, spanMs: number, repair: () => void): void {
    this.#repairs.push({ name, atMs: this.#network.nowMs + spanMs, repair });
  }

  #crash(name: string): void {
    if (!this.#network.isUp(name)) return;
    this.#world.checker.crashed(name);
    this.#network.crash(name);
    this.#later(name, between(this.#random, 10, 500), () => {
      if (!this.#network.isUp(name)) this.#network.restart(name);
    });
  }

  #pause(name: string): void {
    this.#network.pause(name);
    this.#later(name, between(this.#random, 10, 400), () => this.#network.resume(name));
  }

  #slow(name: string): void {
    this.#network.trace(`${name} gets slow`);
    this.#world.slowness.set(name, 20);
    this.#later(name, 300, () => this.#world.slowness.delete(name));
  }

  #cut(a: string, b: string): void {
    if (a === b) return;
    this.#network.cut(a, b);
    this.#later("network", between(this.#random, 20, 400), () => this.#network.healCuts());
  }

  #drain(name: string): void {
    if (!this.#network.isUp(name) || this.#world.shards.length < 3) return;
    this.#canDrain = false;
    this.#shards.get(name)!.drain();
  }

  #heal(): void {
    const { network, shards, fronts } = this.#world;
    network.trace("faults end");
    network.healCuts();
    network.setup = { ...network.setup, loss: 0, tail: 0, duplication: 0 };
    this.#world.slowness.clear();
    for (const name of [STORE, ...shards, ...fronts]) {
      network.resume(name);
      if (!network.isUp(name)) network.restart(name);
    }
  }

  /** Every process runs and is a member, one front plans, and it has nothing left to do. */
  #isAtRest(): boolean {
    const { view } = this.#store;
    const { fronts, shards, network } = this.#world;
    for (const name of [...fronts, ...shards]) {
      const leased = view.members.get(name);
      if (!network.isUp(name) || leased?.member.incarnation !== network.startOf(name)) return false;
    }
    if (!fronts.every((id) => this.#knowsAllLoads(id))) return false;
    const coordinators = fronts.map((id) => this.#fronts.get(id)!.coordinator);
    const planners = coordinators.filter(({ phase }) => phase.name !== "following");
    if (planners.length !== 1 || planners[0]!.phase.name !== "idle") return false;
    const placement = view.plan?.placement;
    const replicas = this.#replicas(
      view.members.values().toArray().flatMap(({ member }) => member.node ?? []),
    );
    if (!placement?.owners.every((owners) => owners.length >= replicas)) return false;
    return placement.owners.every((owners, slot) =>
      owners.every((node) =>
        this.#holds(node, slot) && planners[0]!.reports.get(node)?.epochMin === placement.epoch
      )
    );
  }

  /**
   * Two nodes that stay hold each expert. Being at rest does not say so: without room one copy is
   * all that the planner can do, and a node that was told to drain may not have said so yet.
   */
  #survivesOneFault(): boolean {
    const staying = (node: string) => !this.#shards.get(node)!.isDraining;
    const owners = this.#store.view.plan?.placement.owners;
    return owners?.every((nodes, slot) =>
      nodes.filter((node) => staying(node) && this.#holds(node, slot)).length >= 2
    ) ?? false;
  }

  #knowsAllLoads(front: string): boolean {
    const sum = addLoads([...this.#world.loads.values()], this.#world.grid.size);
    return this.#fronts.get(front)!.load.every((rate, slot) => Math.abs(rate - sum[slot]!) < 1e-9);
  }

  /** Copies that a cluster of these nodes can have. */
  #replicas(nodes: readonly ClusterNode[]): number {
    const { grid } = this.#world;
    const all = Array.from({ length: grid.size }, (_, slot) => slot);
    const live = nodes.filter(({ draining }) => !draining);
    if (live.every((node) => bytesOfSlots(node, grid, all) <= node.memoryBytes)) {
      return Math.min(this.#setup.replicas, live.length);
    }
    const room = live.reduce(
      (sum, node) => sum + Math.min(node.memoryBytes / 10, grid.size),
      0,
    );
    // A full cluster cannot always shuffle experts around; one copy it always has.
    const spare = room - this.#setup.replicas * grid.size;
    return spare >= live.length ? Math.min(this.#setup.replicas, live.length) : 1;
  }

  #holds(node: string, slot: number): boolean {
    return this.#fronts.values().some(({ coordinator }) =>
      coordinator.reports.get(node)?.held.has(slot) ?? false
    );
  }

  #checkRest(): void {
    const { fronts } = this.#world;
    const phases = fronts.map((id) => this.#fronts.get(id)!.coordinator.phase.name);
    assert.ok(this.#isAtRest(), `the cluster never comes to rest: ${phases}`);
  }

  /** No new calls: the running ones end, and nothing is left over anywhere. */
  #finish(): void {
    const fronts = [...this.#fronts.values()];
    for (const front of fronts) front.isCalling = false;
    const endMs = this.#network.nowMs + bounds.callMs;
    while (this.#network.nowMs < endMs && fronts.some((front) => front.runningCount > 0)) {
      this.#network.step();
    }
    assert.deepEqual(
      fronts.map((front) => front.runningCount),
      fronts.map(() => 0),
      "a call hangs",
    );
    for (let i = 0; i < 100; i++) this.#network.step();
    const jobs = [...this.#shards.values()].map((shard) => shard.jobCount);
    assert.deepEqual(jobs, jobs.map(() => 0), "a shard still computes");
    const rows = fronts.map((front) => front.waitingRows);
    assert.deepEqual(rows, rows.map(() => 0), "rows are counted as waiting for ever");
  }
}
