import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { openWasmBackend } from "./backend.ts";
import { variants, WIDE_VARIANT } from "./variants.ts";
import { narrowMemory, wideMemory } from "./memory.ts";
import { chooseVariant, loadModule } from "./variant.ts";

const unavailable = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof OperatingError);
  assert.equal(error.code, "unavailable");
  assert.match(error.message, pattern);
  return true;
};

Deno.test("chooseVariant() takes the best and says why a better one is passed over", () => {
  assert.deepEqual(chooseVariant({}), {
    variant: "relaxed-threads",
    reason: "the machine has all features",
  });
  assert.equal(chooseVariant({ variant: "simd" }).reason, "requested");
  const single = chooseVariant({ modules: { simd: new Uint8Array() } });
  assert.equal(single.variant, "simd");
  assert.match(
    single.reason,
    /^not relaxed-threads: .* not part of this program; not simd-threads/,
  );
});

Deno.test("chooseVariant() takes 64-bit addresses only when 32 bits may not reach", () => {
  const GIB = 2 ** 30;
  assert.equal(chooseVariant({ memoryBytes: 3.5 * GIB }).variant, "relaxed-threads");
  assert.deepEqual(chooseVariant({ memoryBytes: 5.25 * GIB }), {
    variant: "relaxed-threads-64",
    reason: "the model needs about 5.3 GiB",
  });
  assert.equal(chooseVariant({ variant: "simd", memoryBytes: 5 * GIB }).variant, "simd");
  const modules = { "relaxed-threads": new Uint8Array() };
  const close = chooseVariant({ modules, memoryBytes: 3.75 * GIB });
  assert.equal(close.variant, "relaxed-threads");
  assert.match(close.reason, /^not relaxed-threads-64: its module is not part/);
  assert.throws(
    () => chooseVariant({ modules, memoryBytes: 4.5 * GIB }),
    unavailable(/about 4\.5 GiB, .*32-bit addresses ends at 4\.0 GiB, and its module is not part/),
  );
  assert.throws(
    () => chooseVariant({ memoryBytes: 17 * GIB }),
    unavailable(/about 17\.0 GiB, .*64-bit addresses ends at 16\.0 GiB; quantised weights/),
  );
});

Deno.test("chooseVariant() refuses a requested variant that cannot run", () => {
  assert.throws(
    () => chooseVariant({ variant: "simd-threads", modules: { simd: new Uint8Array() } }),
    unavailable(/^Cannot use the kernel variant simd-threads: its module is not part/),
  );
  assert.throws(() => chooseVariant({ modules: {} }), unavailable(/^Cannot run WASM kernels: not/));
});

Deno.test("loadModule() reports a missing and a broken module", async () => {
  const kernelsFolder = new URL("./no-such-folder/", import.meta.url);
  await assert.rejects(loadModule("simd", { kernelsFolder }), unavailable(/^Cannot load .* simd$/));
  const modules = { simd: new Uint8Array([1, 2, 3]) };
  await assert.rejects(loadModule("simd", { modules }), unavailable(/^Cannot load .* simd$/));
});

Deno.test("openWasmBackend() runs each variant on this machine", async () => {
  for (const variant of variants) {
    const backend = await openWasmBackend({ variant, threads: 2 });
    const left = backend.allocate("f32", [5]);
    backend.write(left, new Float32Array([1, 2, 3, 4, 5]));
    backend.ops.add({ left, right: left, out: left });
    assert.deepEqual([...await backend.read(left)], [2, 4, 6, 8, 10]);
    const relaxed = variant.startsWith("relaxed");
    const wide = variant.endsWith("-64");
    const threaded = variant !== "simd";
    assert.equal(
      backend.description.variant,
      `${relaxed ? "relaxed-simd" : "simd128"}${threaded ? "+threads" : ""}${
        wide ? "+memory64" : ""
      }`,
    );
    assert.equal(backend.description.threads, threaded ? 2 : 1);
    assert.match(backend.description.numericClass, relaxed ? /relaxed-simd/ : /simd128\/4$/);
    await backend.close();
  }
});

Deno.test("openWasmBackend() computes from bytes alone when there is no worker", async () => {
  const bytes = await Deno.readFile(
    new URL("../../../wasm/compute-simd/compute_bg.wasm", import.meta.url),
  );
  const scope = globalThis as { Worker?: unknown; SharedArrayBuffer?: unknown };
  const originals = { Worker: scope.Worker, SharedArrayBuffer: scope.SharedArrayBuffer };
  try {
    delete scope.Worker;
    delete scope.SharedArrayBuffer;
    const backend = await openWasmBackend({ modules: { simd: bytes } });
    const input = backend.allocate("f32", [2]);
    backend.write(input, new Float32Array([0, 100]));
    backend.ops.gelu({ input, out: input });
    assert.deepEqual([...await backend.read(input)], [0, 100]);
    await backend.close();
  } finally {
    Object.assign(scope, originals);
  }
});

Deno.test("the wasm-pack glue of every variant starts and shows the same record table", async () => {
  const hashes = new Set<number>();
  const size = { initialPages: 64, maximumPages: 65536 };
  for (const variant of variants) {
    const folder = new URL(`../../../wasm/compute-${variant}/`, import.meta.url);
    const glue = await import(new URL("compute.js", folder).href);
    const module = await loadModule(variant, {});
    glue.initSync(
      variant === "simd" ? { module } : {
        module,
        memory: variant === WIDE_VARIANT ? wideMemory(size) : narrowMemory(size),
        thread_stack_size: 65536,
      },
    );
    hashes.add(glue.table_hash());
  }
  assert.equal(hashes.size, 1);
});
