import assert from "node:assert/strict";
import { AssignedWork } from "./assigned_work.ts";
import { type ClusterBounds, defaultClusterBounds } from "./bounds.ts";
import { type CallContext, type CallEffect, FALLBACK_NODE, LayerCall } from "./calls.ts";
import { ExpertGrid } from "./expert_grid.ts";
import { HedgeBudget } from "./hedge_budget.ts";
import { NodeHealth } from "./node_health.ts";
import { RouteTable } from "./replica_choice.ts";

const bounds: ClusterBounds = {
  ...defaultClusterBounds,
  callMs: 1000,
  attemptMs: 100,
  ownerWaitMs: 50,
  retryMs: 5,
  latencySamplesMin: 4,
  nodeSilenceMs: 1e9,
  hedgedRowsSaved: 8,
};

type Send = CallEffect & { type: "send" };

/** One call of 4 experts (2 rows each), and shorthand for what happens to it. */
class Scene {
  readonly health = new NodeHealth(bounds);
  readonly hedges = new HedgeBudget({ share: 0.05, savedMax: bounds.hedgedRowsSaved });
  routes: RouteTable | undefined;
  readonly call: LayerCall;
  #attempts = 0;

  constructor(owners: string[][] | undefined, rest: Partial<CallContext> = {}) {
    this.setOwners(owners, 1);
    for (const node of new Set(owners?.flat())) this.connect(node);
    const context: CallContext = {
      health: this.health,
      hedges: this.hedges,
      work: new AssignedWork({ halfLifeMs: 60_000 }),
      bounds,
      routes: () => this.routes,
      localNode: undefined,
      fallback: false,
      spreadRows: Infinity,
      nextAttempt: () => ++this.#attempts,
      ...rest,
    };
    const demand = [0, 1, 2, 3].map((expert) => ({ expert, rows: 2 }));
    this.call = new LayerCall({ context, layer: 0, demand, deadlineMs: bounds.callMs });
  }

  setOwners(owners: string[][] | undefined, epoch: number): void {
    const grid = new ExpertGrid({ layers: [0], experts: 4 });
    this.routes = owners && new RouteTable({ grid, placement: { epoch, owners } });
  }

  connect(node: string): void {
    this.health.connected(node, { nowMs: 0, speed: 1000 });
  }

  reply(nowMs: number, { attempt, node, epoch }: Send): CallEffect[] {
    return this.call.reply(nowMs, { attempt, node, epoch }).effects;
  }

  refuse(nowMs: number, send: Send, reason: "wrong_epoch" | "failed"): CallEffect[] {
    return this.call.refuse(nowMs, { ...send, reason });
  }
}

function sends(effects: readonly CallEffect[]): Send[] {
  return effects.filter((effect) => effect.type === "send");
}

/** Readable form of effects. */
function show(effects: readonly CallEffect[]): string[] {
  return effects.map((effect) => {
    if (effect.type === "send") return `${effect.node}#${effect.attempt}: ${effect.experts}`;
    if (effect.type === "compute") return `here#${effect.attempt}: ${effect.experts}`;
    if (effect.type === "cancel") return `cancel ${effect.node}#${effect.attempt}`;
    if (effect.type === "fail") return `fail: ${effect.error.message}`;
    return `complete ${effect.parts.map(({ attempt }) => `#${attempt}`).join(" ")}`;
  });
}

const twoHalves = [["a"], ["a"], ["b"], ["b"]];
const replicated = [["a", "b"], ["a", "b"], ["a", "b"], ["a", "b"]];

Deno.test("LayerCall sends one frame per node and completes in expert order, not arrival order", () => {
  const scene = new Scene(twoHalves);
  const effects = scene.call.start(0);
  assert.deepEqual(show(effects), ["a#1: 0,1", "b#2: 2,3"]);
  const [a, b] = sends(effects);
  assert.deepEqual(show(scene.reply(1, b!)), []);
  assert.deepEqual(show(scene.reply(2, a!)), ["complete #1 #2"]);
  assert.ok(scene.call.isDone);
  assert.deepEqual(scene.reply(3, a!), [], "a repeated reply");
  assert.equal(scene.health.waitingRows("a"), 0);
});

Deno.test("LayerCall ignores replies that do not match their attempt", () => {
  const scene = new Scene(twoHalves);
  const [a, b] = sends(scene.call.start(0));
  for (const wrong of [{ ...a!, epoch: 2 }, { ...a!, node: "b" }, { ...a!, attempt: 77 }]) {
    assert.deepEqual(scene.call.reply(1, wrong), { isUsed: false, effects: [] });
  }
  scene.reply(1, a!);
  assert.deepEqual(scene.call.reply(1, a!), { isUsed: false, effects: [] }, "only once");
  assert.deepEqual(show(scene.reply(1, b!)), ["complete #1 #2"]);
});

Deno.test("LayerCall asks replicas when a node is lost, and divides its experts among them", () => {
  const scene = new Scene([["a", "b"], ["a", "b"], ["a", "c"], ["a", "c"]]);
  const [first] = sends(scene.call.start(0));
  assert.equal(first!.node, "a");
  scene.health.lost("a");
  const retried = scene.call.nodeLost(3, "a");
  assert.deepEqual(show(retried), ["b#2: 0,1", "c#3: 2,3"]);
  assert.deepEqual(scene.reply(4, first!), [], "an answer of the lost connection");
  const [b, c] = sends(retried);
  scene.reply(5, c!);
  assert.deepEqual(show(scene.reply(5, b!)), ["complete #2 #3"]);
});

Deno.test("LayerCall hedges after the node's p95, within the budget, and cancels the loser", () => {
  const scene = new Scene(replicated);
  for (let i = 0; i < 4; i++) scene.health.answered("a", { nowMs: 0, latencyMs: 10, rows: 8 });
  const [first] = sends(scene.call.start(0));
  assert.equal(scene.call.wakeMs, 10);
  assert.deepEqual(scene.call.tick(9), []);
  const hedge = scene.call.tick(10);
  assert.deepEqual(show(hedge), ["b#2: 0,1,2,3"]);
  assert.deepEqual(scene.call.tick(11), [], "one hedge");
  assert.deepEqual(show(scene.reply(12, sends(hedge)[0]!)), ["cancel a#1", "complete #2"]);
  assert.deepEqual(scene.reply(13, first!), []);
  assert.equal(scene.call.counts.hedgedRows, 8);
  assert.equal(scene.health.waitingRows("a") + scene.health.waitingRows("b"), 0);
});

Deno.test("LayerCall takes the first answer when the hedged node is faster after all", () => {
  const scene = new Scene(replicated);
  for (let i = 0; i < 4; i++) scene.health.answered("a", { nowMs: 0, latencyMs: 10, rows: 8 });
  const [first] = sends(scene.call.start(0));
  scene.call.tick(10);
  assert.deepEqual(show(scene.reply(11, first!)), ["cancel b#2", "complete #1"]);
});

Deno.test("LayerCall sets no timer for a hedge that nobody could answer", () => {
  for (const [owners, wakeMs] of [[replicated, 3], [twoHalves, 100]] as const) {
    const scene = new Scene(owners.map((list) => [...list]));
    for (const node of ["a", "b"]) {
      for (const rows of [4, 8]) {
        for (let i = 0; i < 4; i++) {
          scene.health.answered(node, { nowMs: 0, latencyMs: 3, rows });
        }
      }
    }
    scene.call.start(0);
    assert.equal(scene.call.wakeMs, wakeMs);
  }
});

Deno.test("LayerCall does not hedge without budget", () => {
  const scene = new Scene(replicated);
  for (let i = 0; i < 4; i++) scene.health.answered("a", { nowMs: 0, latencyMs: 10, rows: 8 });
  scene.hedges.spend(5);
  scene.call.start(0);
  assert.deepEqual(scene.call.tick(50), []);
});

Deno.test("LayerCall asks others of a silent node, yet takes its late answer", () => {
  const scene = new Scene(replicated);
  const [first] = sends(scene.call.start(0));
  assert.equal(scene.call.wakeMs, 100);
  assert.deepEqual(show(scene.call.tick(100)), ["b#2: 0,1,2,3"]);
  assert.deepEqual(show(scene.reply(101, first!)), ["cancel b#2", "complete #1"]);
});

Deno.test("LayerCall does not count time in which its own process stood still", () => {
  const scene = new Scene(replicated);
  const [first] = sends(scene.call.start(0));
  scene.call.stalled(5000);
  assert.equal(scene.call.wakeMs, 5100);
  assert.deepEqual(show(scene.call.tick(5001)), [], "neither late nor at its deadline");
  assert.equal(scene.health.circuit("a"), "closed");
  assert.deepEqual(show(scene.reply(5002, first!)), ["complete #1"]);
});

Deno.test("LayerCall is not over when its first answer is read before the timer, after a stop", () => {
  const scene = new Scene(twoHalves);
  const [a, b] = sends(scene.call.start(0));
  assert.deepEqual(show(scene.reply(60_000, a!)), []);
  scene.call.stalled(60_000);
  assert.deepEqual(show(scene.reply(60_001, b!)), ["complete #1 #2"]);
});

Deno.test("LayerCall waits for a silent node when nobody else has its experts", () => {
  const scene = new Scene(twoHalves);
  const [a, b] = sends(scene.call.start(0));
  scene.reply(1, b!);
  for (let nowMs = 100; nowMs < 900; nowMs += 50) assert.deepEqual(scene.call.tick(nowMs), []);
  assert.deepEqual(show(scene.reply(900, a!)), ["complete #1 #2"]);
});

Deno.test("LayerCall fails at its deadline and cancels what is under way", () => {
  const scene = new Scene(twoHalves);
  scene.call.start(0);
  const effects = scene.call.tick(1000);
  assert.deepEqual(show(effects), [
    "cancel a#1",
    "cancel b#2",
    "fail: Layer 0 got no answer in time",
  ]);
  assert.deepEqual(scene.call.tick(1001), []);
});

Deno.test("LayerCall retries a stale plan with the newest one", () => {
  const scene = new Scene([["a"], ["a"], ["a"], ["a"]]);
  const [first] = sends(scene.call.start(0));
  scene.setOwners([["b"], ["b"], ["b"], ["b"]], 2);
  scene.connect("b");
  const [second] = sends(scene.refuse(2, first!, "wrong_epoch"));
  assert.deepEqual([second!.node, second!.epoch], ["b", 2]);
  assert.equal(scene.health.circuit("a"), "closed", "a refusal is no failure");
});

Deno.test("LayerCall comes back to the only owner after a while, and gives up in the end", () => {
  const scene = new Scene([["a"], ["a"], ["a"], ["a"]]);
  let [send] = sends(scene.call.start(0));
  let [tries, nowMs] = [1, 0];
  while (send && tries < 1000) {
    const refused = scene.refuse(nowMs, send, "failed");
    assert.deepEqual(sends(refused), [], "not at once");
    send = undefined;
    while (!send && nowMs < 1000) {
      nowMs += 1;
      const effects = scene.call.tick(nowMs);
      send = sends(effects)[0];
      if (scene.call.isDone) assert.match(show(effects).join(), /^fail/);
    }
    tries += 1;
  }
  assert.ok(scene.call.isDone);
  assert.ok(tries > 10 && tries < bounds.attempts, `${tries} tries`);
});

Deno.test("LayerCall names the experts that nobody owns, after waiting for an owner", () => {
  const scene = new Scene([["a"], ["a"], [], ["a"]]);
  const [a] = sends(scene.call.start(0));
  scene.reply(1, a!);
  let effects: CallEffect[] = [];
  for (let nowMs = 1; nowMs < 100 && !scene.call.isDone; nowMs++) effects = scene.call.tick(nowMs);
  assert.deepEqual(show(effects), ["fail: No live node owns expert 2 of layer 0"]);
  const [effect] = effects;
  assert.ok(effect?.type === "fail" && effect.error.code === "unavailable");
});

Deno.test("LayerCall goes on when an owner appears in time", () => {
  const scene = new Scene(undefined);
  assert.deepEqual(scene.call.start(0), []);
  scene.setOwners([["a"], ["a"], ["a"], ["a"]], 1);
  scene.connect("a");
  assert.deepEqual(show(scene.call.tick(scene.call.wakeMs)), ["a#1: 0,1,2,3"]);
});

Deno.test("LayerCall falls back to its own disk instead of failing", () => {
  const scene = new Scene([["a"], ["a"], [], []], { fallback: true });
  const effects = scene.call.start(0);
  assert.deepEqual(show(effects), ["a#1: 0,1", "here#2: 2,3"]);
  scene.call.reply(1, { attempt: 2, node: FALLBACK_NODE, epoch: 0 });
  assert.deepEqual(show(scene.call.nodeLost(2, "a")), ["here#3: 0,1"]);
  const { effects: last } = scene.call.reply(3, { attempt: 3, node: FALLBACK_NODE, epoch: 0 });
  assert.deepEqual(show(last), ["complete #3 #2"]);
});

Deno.test("LayerCall asks the local node without a connection, and never hedges it", () => {
  const scene = new Scene([["a", "me"], ["a", "me"], ["a"], ["me"]], { localNode: "me" });
  scene.health.lost("me");
  assert.deepEqual(show(scene.call.start(0)), ["a#1: 0,2", "me#2: 1,3"]);
  scene.call.reply(1, { attempt: 1, node: "a", epoch: 1 });
  assert.deepEqual(scene.call.tick(900), []);
});

Deno.test("LayerCall prefers nodes whose circuit is closed", () => {
  const scene = new Scene(replicated);
  for (let i = 0; i < 3; i++) scene.health.failed("a", 0);
  assert.deepEqual(show(scene.call.start(0)), ["b#1: 0,1,2,3"]);
});

Deno.test("LayerCall asks a node with an open circuit when the good one is silent", () => {
  const scene = new Scene(replicated);
  const [first] = sends(scene.call.start(0));
  assert.equal(first!.node, "a");
  for (let i = 0; i < 3; i++) scene.health.failed("b", 90);
  assert.equal(scene.health.isGood("b", 100), false);
  const asked = scene.call.tick(100);
  assert.deepEqual(show(asked), ["b#2: 0,1,2,3"]);
  assert.deepEqual(show(scene.call.tick(200)), [], "both are silent: there is nobody else");
  assert.deepEqual(show(scene.reply(201, sends(asked)[0]!)), ["cancel a#1", "complete #2"]);
});

Deno.test("LayerCall cancels everything when nobody wants it any more", () => {
  const scene = new Scene(twoHalves);
  const [a] = sends(scene.call.start(0));
  assert.deepEqual(show(scene.call.abort()), ["cancel a#1", "cancel b#2"]);
  assert.deepEqual(scene.reply(1, a!), []);
});
