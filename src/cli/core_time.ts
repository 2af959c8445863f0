/**
 * Time that processes had a core, and waited for one, from the scheduler's own books (Linux). Tells
 * whether a process was slow or was not let.
 */

export interface CoreTime {
  readonly ranMs: number;
  /** Ready to run, while others had the cores. */
  readonly waitedMs: number;
}

/** Sum over all threads of a process so far; undefined where there are no such books. */
export function coreTimeOf(pid: number): CoreTime | undefined {
  const sum = { ranMs: 0, waitedMs: 0 };
  try {
    for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
      const text = Deno.readTextFileSync(`/proc/${pid}/task/${name}/schedstat`);
      const [ran, waited] = text.split(" ").map(Number);
      sum.ranMs += ran! / 1e6;
      sum.waitedMs += waited! / 1e6;
    }
  } catch (error) {
    // A thread may end between the two looks; without the books there is no figure at all.
    if (error instanceof Deno.errors.NotFound) return sum.ranMs > 0 ? sum : undefined;
    throw error;
  }
  return sum.ranMs > 0 ? sum : undefined;
}
