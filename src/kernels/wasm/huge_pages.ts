/**
 * Huge pages for the kernels' memory. Weights are read whole for every token, and with pages of 4 KiB
 * a good part of that time goes into finding them: on the machines measured in benchmarks/LOG.md huge
 * ones give a fifth more. Linux hands them out unasked only in its mode "always"; in "madvise", the
 * usual one, a program has to ask through the C library, which takes the permission to call it. Not
 * part of the backend itself: browsers have none of this.
 */

const MODE_PATH = "/sys/kernel/mm/transparent_hugepage/enabled";
const C_LIBRARY = "libc.so.6";
/** From sys/mman.h. */
const MADV_HUGEPAGE = 14;

/** What the system gives to programs: all memory, what they ask for, nothing; undefined: no such thing. */
export type HugePageMode = "always" | "madvise" | "never";

export function hugePageMode(): HugePageMode | undefined {
  if (Deno.build.os !== "linux") return undefined;
  try {
    const text = Deno.readTextFileSync(MODE_PATH);
    return /\[(always|madvise|never)\]/.exec(text)?.[1] as HugePageMode | undefined;
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}

/** Whether this program may ask. */
export function mayAdvise(): boolean {
  const permission = { name: "ffi", path: C_LIBRARY } as const;
  return Deno.permissions.querySync(permission).state === "granted";
}

/**
 * Asks for huge pages wherever the memory will lie, now or once it has grown. Returns whether the
 * system agreed; nothing but speed depends on it.
 */
export function adviseHugePages(memory: WebAssembly.Memory, sizeBytes: number): boolean {
  if (hugePageMode() !== "madvise" || !mayAdvise()) return false;
  const library = openLibrary();
  if (library === undefined) return false;
  try {
    const start = Deno.UnsafePointer.of(new Uint8Array(memory.buffer));
    return library.symbols.madvise(start, BigInt(sizeBytes), MADV_HUGEPAGE) === 0;
  } finally {
    library.close();
  }
}

function openLibrary() {
  try {
    return Deno.dlopen(C_LIBRARY, {
      madvise: { parameters: ["pointer", "usize", "i32"], result: "i32" },
    });
  } catch (error) {
    // Another C library than the usual one.
    if (error instanceof Error) return undefined;
    throw error;
  }
}
