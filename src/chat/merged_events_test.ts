import assert from "node:assert/strict";
import { MergedEvents } from "./merged_events.ts";

/** Yields its values, each after its turn came; ends or throws when `stop` fires. */
async function* source(values: readonly number[], stop?: AbortSignal): AsyncGenerator<number> {
  for (const value of values) {
    await new Promise((resolve) => setTimeout(resolve, value));
    stop?.throwIfAborted();
    yield value;
  }
}

Deno.test("MergedEvents yields the events of all sources in order of arrival", async () => {
  const merged = new MergedEvents<string, number>(() => assert.fail("nothing is abandoned"));
  merged.add("a", source([1, 40]));
  merged.add("b", source([20]));
  const seen: string[] = [];
  for await (const { source, event } of merged) seen.push(`${source}${event}`);
  assert.deepEqual(seen, ["a1", "b20", "a40"]);
});

Deno.test("MergedEvents takes sources that join while it is read", async () => {
  const merged = new MergedEvents<string, number>(() => assert.fail("nothing is abandoned"));
  merged.add("a", source([0]));
  const seen: string[] = [];
  for await (const { source: name, event } of merged) {
    seen.push(`${name}${event}`);
    if (name === "a") merged.add("b", source([1, 2]));
  }
  assert.deepEqual(seen, ["a0", "b1", "b2"]);
});

Deno.test("MergedEvents abandons the other sources when one throws or the reader leaves", async () => {
  for (const leave of [true, false]) {
    const stop = new AbortController();
    const merged = new MergedEvents<string, number>(() => stop.abort());
    merged.add("a", source([0, 1, 2], stop.signal));
    merged.add("b", source([0, 1, 2], stop.signal));
    const read = async () => {
      for await (const { event } of merged) {
        if (event === 0 && leave) return;
        if (event === 1) throw new RangeError("reader failed");
      }
    };
    if (leave) await read();
    else await assert.rejects(read(), RangeError);
    assert.ok(stop.signal.aborted);
  }
});

Deno.test("MergedEvents passes a source's error on", async () => {
  const merged = new MergedEvents<string, number>(() => {});
  merged.add("a", source([0, 50, 50]));
  merged.add("b", source([1], AbortSignal.abort(new RangeError("broken"))));
  await assert.rejects(async () => {
    for await (const _ of merged);
  }, RangeError);
});
